#!/usr/bin/env bash
# Stage 30: weights, bucket -> RAM.
# Needs: MAYFLY_WEIGHTS_URI (immutable gs:// path); /mnt/mayfly with room and
#        /run/mayfly/weights-manifest.json, both from stage 05.
# Leaves: /mnt/mayfly/weights/.complete holding that address.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly list="$run_dir/weights-manifest.json" dest="$ram_dir/weights"

# What a VM of 200 cores can use; more processes than this only wait for the network card.
processes() {
  local cores
  cores="$(nproc)"
  printf '%s' "$((cores < 64 ? cores : 64))"
}

# Only what is not there yet: gsutil renames a file to its name when its hash is right, so a
# retry goes on where the last try ended. A folder at a time, since -I puts all into one.
pull() {
  local uri=$1 todo folder
  todo="$(manifest absent "$list" "$dest")" || return 1
  if [[ -z "$todo" ]]; then return 0; fi
  while IFS= read -r folder; do
    mkdir -p "$dest/$folder" || return 1
    awk -F '\t' -v folder="$folder" -v uri="$uri" \
      '$1 == folder {print uri "/" (folder == "" ? "" : folder "/") $2}' <<<"$todo" |
      gs -m -o "GSUtil:parallel_process_count=$(processes)" -o GSUtil:parallel_thread_count=4 \
        cp -I "$dest/$folder" || return 1
  done < <(cut -f 1 <<<"$todo" | sort -u)
  [[ -z "$(manifest absent "$list" "$dest")" ]]
}

# Against the bucket before the first byte, against the content after the last.
check_bucket() {
  local lines status=0
  lines="$(manifest changed "$list" "$1")" || status=$?
  case "$status" in
  0) ;;
  1) fail "the weights in the bucket are not what was seeded: ${lines%%$'\n'*}; run: mayfly seed $MAYFLY_PROFILE" ;;
  *) fail "could not list $1 (exit $status); may this VM? run: pulumi up --stack foundation" ;;
  esac
}

drop_wrong() { # prints what it dropped
  local name names status=0
  names="$(manifest wrong "$list" "$dest")" || status=$?
  if ((status > 1)); then # 1: some are wrong; more: the check itself broke, nothing is known
    fail "could not check the weights against their manifest (exit $status); see $log_dir/weights.log"
  fi
  if [[ -z "$names" ]]; then return 0; fi
  while IFS= read -r name; do
    rm -f "$dest/$name"
  done <<<"$names"
  printf '%s' "${names//$'\n'/ }"
}

main() {
  local uri="${MAYFLY_WEIGHTS_URI:?stage 30 needs the gs:// address of the weights}" bad
  if [[ "$(cat "$dest/.complete" 2>/dev/null)" == "$uri" ]]; then
    log INFO "weights already in $dest"
    return 0
  fi
  mkdir -p "$dest" # not `a && b`: errexit would miss a failing a
  rm -f "$dest/.complete"
  check_bucket "$uri"
  retry 5 5 pull "$uri" || fail "could not pull the weights from $uri; see $log_dir/$stage.log"
  bad="$(drop_wrong)"
  if [[ -n "$bad" ]]; then
    log WARN "not what the manifest says, pulling again: $bad"
    retry 5 5 pull "$uri" || fail "could not pull $bad from $uri again"
    bad="$(drop_wrong)"
    if [[ -n "$bad" ]]; then
      fail "wrong content twice in a row: $bad; run: mayfly seed $MAYFLY_PROFILE"
    fi
  fi
  find "$dest" -name '*_.gstmp' -delete # what a broken try has left
  report_bytes "$(manifest total "$list")"
  printf '%s\n' "$uri" >"$dest/.complete" # last: half a pull must not look whole
}
main "$@"
