#!/usr/bin/env bash
# Stage 35, optional: kernel caches of the same engine, GPU, driver, model and flags, bucket -> disk.
# Needs: the driver (stage 10); MAYFLY_CACHE_BUCKET; MAYFLY_KERNEL_CACHES, empty where they are off.
# Leaves: /var/cache/mayfly-vllm filled and /run/mayfly/kernel-caches, their address; or all as it
#         was, and where what lies there is no good its address in /run/mayfly/bad-caches.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly cache="$root/var/cache/mayfly-vllm" work="$root/var/cache/mayfly/kernels"
readonly max_bytes=$((2 << 30))

fetch_archive() {
  gs cp "$1" "$work/" </dev/null
}

# bad URI WHY  Stage 70 saves others after them: nobody's next start shall find these again.
bad() {
  printf '%s\n' "$1" >"$run_dir/bad-caches"
  fail "$2"
}

# lost URI ARCHIVE  It cannot be pulled. Is it not there at all, or is it the network?
lost() {
  local status=0
  manifest changed "$work.json" "$1" || status=$?
  if ((status == 1)); then bad "$1" "$1/$2 is not there as its manifest says"; fi
  fail "could not pull $1/$2"
}

# restore URI  What lies there, checked, to its place.
restore() {
  local uri=$1 bytes names archive said
  bytes="$(manifest total "$work.json")" || bad "$uri" "bad $uri/manifest.json"
  if ((bytes > max_bytes)); then
    bad "$uri" "$uri holds $bytes bytes, more than the $max_bytes we take"
  fi
  names="$(manifest names "$work.json")"
  archive="$(grep -m 1 '^caches-.*\.tar\.gz$' <<<"$names")" || bad "$uri" "$uri/manifest.json names none"
  retry 3 2 fetch_archive "$uri/$archive" || lost "$uri" "$archive"
  manifest wrong "$work.json" "$work" || bad "$uri" "$uri/$archive is not what its manifest says"
  said="$(python3 -m startup.caches unpack "$work/$archive" "$cache")" || bad "$uri" "$uri/$archive: $said"
  log INFO "$said"
  printf '%s\n' "$uri" >"$run_dir/kernel-caches" # stage 50 gives them up if vLLM dies of them
  report_bytes "$bytes"
}

main() {
  local uri
  if [[ -z "${MAYFLY_KERNEL_CACHES:-}" ]]; then
    log INFO "kernel caches are switched off"
    return 0
  fi
  if [[ -n "$(ls -A "$cache" 2>/dev/null)" ]]; then
    log INFO "there are kernel caches in $cache already"
    return 0
  fi
  uri="$(python3 -m startup.caches uri)" || fail "$uri"
  rm -rf "$work"
  mkdir -p "$work"
  if bring_manifest "$uri" "$work.json"; then
    restore "$uri"
  else
    log INFO "no kernel caches yet at $uri: this start compiles, the next will not"
  fi
  rm -rf "$work"
}
main "$@"
