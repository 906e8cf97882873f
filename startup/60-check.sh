#!/usr/bin/env bash
# Stage 60: the endpoint does what it is for, before anybody is told that it serves.
# Needs: vLLM answering on MAYFLY_PORT (stage 50), its key in /run/mayfly-key/env.
# Leaves: nothing. See startup/check.py for what it asks.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What vLLM was started with, whatever the image has told systemd: else NCCL may look for gIB.
check_nccl() {
  local said
  said="$(python3 -m startup.nccl_env unit mayfly-vllm.service 2>&1)" ||
    fail "vLLM runs with NCCL settings that are not ours: ${said//$'\n'/, }"
}

main() {
  local said
  check_nccl
  if ! said="$(python3 -m startup.check 2>&1)"; then
    fail "the endpoint answers, but not as it should: ${said##*$'\n'}"
  fi
  log INFO "$said"
}
main "$@"
