#!/usr/bin/env bash
# Stage 60: the endpoint does what it is for, before anybody is told that it serves. A mode that
# does not is given up for the safe one, once.
# Needs: vLLM answering on MAYFLY_PORT (stage 50), its key in /run/mayfly-key/env; MAYFLY_MODE,
#        MAYFLY_SERVE_FLAGS, MAYFLY_SAFE_FLAGS ([]: there is no safer mode).
# Leaves: guest attribute endpoint; /run/mayfly/answers; after a fallback /run/mayfly/serve-flags,
#         which startup/serve.py takes, and /run/mayfly/fallback: why. See startup/check.py.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What vLLM was started with, whatever the image has told systemd: else NCCL may look for gIB.
check_nccl() {
  local said status=0
  said="$(python3 -m startup.nccl_env unit mayfly-vllm.service 2>&1)" || status=$?
  case "$status" in
  0) ;;
  1) fail "vLLM runs with NCCL settings that are not ours: ${said//$'\n'/, }" ;;
  *) fail "$said" ;; # it says what it could not look at
  esac
}

check() { # leaves the last line in $said
  local status=0
  check_nccl
  said="$(python3 -m startup.check 2>&1)" || status=$?
  log INFO "$said"
  said="${said##*$'\n'}"
  return "$status"
}

restart_safely() {
  printf '%s\n' "$MAYFLY_SAFE_FLAGS" >"$run_dir/serve-flags"
  printf '%s\n' "$1" >"$run_dir/fallback"
  systemctl stop mayfly-vllm.service ||
    fail "mode $MAYFLY_MODE failed its check ($1), and its vLLM does not stop" # stage 50 would leave it alone
  MAYFLY_STAGE="$stage" bash "$(dirname "${BASH_SOURCE[0]}")/50-serve.sh"
}

main() {
  local said why
  if check; then return 0; fi
  why="$said"
  if [[ "${MAYFLY_SAFE_FLAGS:-[]}" == "[]" || -e "$run_dir/fallback" ]]; then
    fail "the endpoint answers, but not as it should: $why"
  fi
  say "mode $MAYFLY_MODE failed its check ($why): starting again in the safe mode"
  if ! restart_safely "$why"; then
    fail "mode $MAYFLY_MODE failed its check ($why), and the safe mode did not start: $(cat "$run_dir/why/$stage")"
  fi
  check || fail "mode $MAYFLY_MODE failed its check ($why), and so did the safe mode ($said)"
}
main "$@"
