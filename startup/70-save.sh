#!/usr/bin/env bash
# Stage 70, optional and late: the kernel caches of this start to the bucket, for the next one.
# Needs: a start that passed its check; MAYFLY_CACHE_BUCKET, where a node may create and read.
# Leaves: caches-<digest>.tar.gz and, last, manifest.json, if the bucket had none for this key, or
#         only such as this start found bad: then after those, under the next number.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly most=9 # numbers: a machine on which all caches are bad must not fill the bucket
readonly cache="$root/var/cache/mayfly-vllm" work="$root/var/cache/mayfly/saving"

# Of two nodes that save at once the first wins, and losing is no failure: what an archive holds
# is in its name, and one manifest is as good as the other.
create() {
  gs -h x-goog-if-generation-match:0 cp "$1" "$2" </dev/null
}

create_archive() {
  create "$1" "$2/" || log WARN "could not create it; is it there?"
  manifest make "$work" "$2" "$MAYFLY_PROFILE on $MAYFLY_MACHINE" >"$work.json"
}

create_manifest() {
  create "$work.json" "$1/manifest.json" || cloud get "$1/manifest.json" >/dev/null
}

main() {
  local uri said name
  if [[ -z "${MAYFLY_KERNEL_CACHES:-}" ]]; then
    log INFO "kernel caches are switched off"
    return 0
  fi
  if [[ -e "$run_dir/serve-flags" ]]; then # kernels that failed their check must not come back
    log INFO "this is not the mode that was asked for: its kernel caches are not kept"
    return 0
  fi
  uri="$(python3 -m startup.caches uri)" || fail "$uri"
  if cloud get "$uri/manifest.json" >/dev/null; then
    if [[ "$(cat "$run_dir/bad-caches" 2>/dev/null)" != "$uri" ]] || ((${uri##*/} >= most)); then
      log INFO "the bucket has kernel caches for this start: $uri"
      return 0
    fi
    uri="${uri%/*}/$((${uri##*/} + 1))"
  fi
  rm -rf "$work"
  mkdir -p "$work"
  said="$(retry 3 20 nice -n 19 python3 -m startup.caches pack "$cache" "$work/new")" ||
    fail "${said##*$'\n'}"
  log INFO "${said##*$'\n'}"
  name="caches-$(sha256sum "$work/new" | cut -c 1-16).tar.gz"
  mv "$work/new" "$work/$name"
  retry 3 5 create_archive "$work/$name" "$uri" ||
    fail "could not create $uri/$name; see $log_dir/$stage.log"
  retry 3 5 create_manifest "$uri" ||
    fail "could not create $uri/manifest.json; see $log_dir/$stage.log"
  report_bytes "$(manifest total "$work.json")"
  rm -rf "$work"
}
main "$@"
