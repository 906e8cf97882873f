#!/usr/bin/env bash
# Stage 30, first half: everything of the model but its shards, bucket -> RAM, so that the engine
# can start while the shards still arrive.
# Needs: MAYFLY_WEIGHTS_URI (immutable gs:// path); /mnt/mayfly with room and
#        /run/mayfly/weights-manifest.json, both from stage 05.
# Leaves: the small files in /mnt/mayfly/weights; /mnt/mayfly/weights.json, the manifest of it all.
source "$(dirname "${BASH_SOURCE[0]}")/pull.sh"

main() {
  local uri="${MAYFLY_WEIGHTS_URI:?stage 30 needs the gs:// address of the weights}"
  retry 5 5 pull config || fail "could not pull the model's small files from $uri; see $log_dir/$stage.log"
}
main "$@"
