#!/usr/bin/env bash
# Seed: the model's files, hub -> disk -> bucket, a few at a time.
# Needs: MAYFLY_MODEL, MAYFLY_REVISION, MAYFLY_WEIGHTS_URI, MAYFLY_DISK_GB, MAYFLY_PARALLEL,
#        MAYFLY_HF_TOKEN_SECRET (or ""); /opt/mayfly-seed (seed-tools.sh).
# Leaves: the files and, last, manifest.json at MAYFLY_WEIGHTS_URI. See startup/seed.py.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  local said status=0
  said="$run_dir/why/$stage.said"
  export HF_HUB_DISABLE_PROGRESS_BARS=1 HF_HUB_DISABLE_TELEMETRY=1 HF_XET_HIGH_PERFORMANCE=1
  export HF_HOME="$root/var/cache/mayfly/hf" HF_XET_CHUNK_CACHE_SIZE_BYTES=0 # MAYFLY_DISK_GB is the limit
  "$seed_dir/bin/python" -m startup.seed 2>&1 | tee "$said" || status=$?
  if ((status != 0)); then
    fail "$(tail -n 1 "$said")"
  fi
}
main "$@"
