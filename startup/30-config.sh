#!/usr/bin/env bash
# Stage 30, first half: everything of the model but its shards, bucket -> RAM, so that the engine
# can start while the shards still arrive.
# Needs: MAYFLY_WEIGHTS_URI (immutable gs:// path); /mnt/mayfly with room and
#        /run/mayfly/weights-manifest.json, both from stage 05.
# Leaves: the small files in /mnt/mayfly/weights; /mnt/mayfly/weights.json, the manifest of it all.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly list="$run_dir/weights-manifest.json" dest="$ram_dir/weights" arriving="$ram_dir/arriving"

pull() {
  local uri=$1 todo folder
  todo="$(manifest absent "$list" "$dest" | grep -v '\.safetensors$')" || return 0
  while IFS= read -r folder; do
    mkdir -p "$arriving/$folder" || return 1
    awk -F '\t' -v folder="$folder" -v uri="$uri" \
      '$1 == folder {print uri "/" (folder == "" ? "" : folder "/") $2}' <<<"$todo" |
      gs -m cp -I "$arriving/$folder" || return 1
  done < <(cut -f 1 <<<"$todo" | sort -u)
}

main() {
  local uri="${MAYFLY_WEIGHTS_URI:?stage 30 needs the gs:// address of the weights}"
  mkdir -p "$dest" "$arriving"
  install -m 644 "$list" "$ram_dir/weights.json.new"
  mv "$ram_dir/weights.json.new" "$ram_dir/weights.json"
  retry 5 5 pull "$uri" || fail "could not pull the model's small files from $uri; see $log_dir/$stage.log"
  cp -a "$arriving/." "$dest/"
  rm -rf "$arriving"
}
main "$@"
