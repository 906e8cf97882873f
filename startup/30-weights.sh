#!/usr/bin/env bash
# Stage 30, second half: the shards, bucket -> RAM. See startup/pull.py.
# Needs: MAYFLY_WEIGHTS_URI (immutable gs:// path); /mnt/mayfly with room and
#        /run/mayfly/weights-manifest.json, both from stage 05; gcloud or gsutil.
# Leaves: /mnt/mayfly/weights/.complete holding that address.
source "$(dirname "${BASH_SOURCE[0]}")/pull.sh"

main() {
  local uri="${MAYFLY_WEIGHTS_URI:?stage 30 needs the gs:// address of the weights}" dest="$ram_dir/weights"
  if [[ "$(cat "$dest/.complete" 2>/dev/null)" == "$uri" ]]; then
    log INFO "weights already in $dest"
    return 0
  fi
  rm -f "$dest/.complete"
  retry 5 5 pull weights || fail "could not pull the weights from $uri; see $log_dir/$stage.log"
  printf '%s\n' "$uri" >"$dest/.complete" # last: half a pull must not look whole
}
main "$@"
