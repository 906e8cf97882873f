#!/usr/bin/env bash
# Stage 35, optional: kernel caches of the same engine, GPU, driver, model and flags, bucket -> disk.
# Needs: the driver (stage 10); MAYFLY_CACHE_BUCKET; MAYFLY_KERNEL_CACHES, empty where they are off.
# Leaves: /var/cache/mayfly-vllm filled and /run/mayfly/kernel-caches, their address; or all as it was.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly cache="$root/var/cache/mayfly-vllm" work="$root/var/cache/mayfly/kernels"
readonly max_bytes=$((2 << 30))

fetch_manifest() { # status 4: there is none
  local uri=$1 status=0 bytes
  cloud get "$uri/manifest.json" >"$work.json" || status=$?
  case "$status" in
  0) ;;
  4) return 4 ;;
  *) fail "starting without kernel caches: could not read $uri/manifest.json (exit $status)" ;;
  esac
  bytes="$(manifest total "$work.json")" || fail "starting without kernel caches: bad $uri/manifest.json"
  if ((bytes > max_bytes)); then
    fail "starting without kernel caches: $uri holds $bytes bytes, more than the $max_bytes we take"
  fi
}

fetch_archive() {
  gs cp "$1" "$work/" </dev/null
}

main() {
  local uri archive said status=0
  if [[ -z "${MAYFLY_KERNEL_CACHES:-}" ]]; then
    log INFO "kernel caches are switched off"
    return 0
  fi
  if [[ -n "$(ls -A "$cache" 2>/dev/null)" ]]; then
    log INFO "there are kernel caches in $cache already"
    return 0
  fi
  uri="$(python3 -m startup.caches uri)" || fail "starting without kernel caches: $uri"
  rm -rf "$work"
  mkdir -p "$work"
  fetch_manifest "$uri" || status=$?
  if ((status == 4)); then
    log INFO "no kernel caches yet at $uri: this start compiles, the next will not"
    return 0
  fi
  archive="$(manifest absent "$work.json" "$root/nowhere" | cut -f 2 | grep -m 1 '^caches-.*\.tar\.gz$')" ||
    fail "starting without kernel caches: $uri/manifest.json names none"
  retry 3 2 fetch_archive "$uri/$archive" || fail "starting without kernel caches: could not pull $uri/$archive"
  manifest wrong "$work.json" "$work" ||
    fail "starting without kernel caches: $uri/$archive is not what its manifest says"
  said="$(python3 -m startup.caches unpack "$work/$archive" "$cache")" ||
    fail "starting without kernel caches: $said"
  log INFO "$said"
  printf '%s\n' "$uri" >"$run_dir/kernel-caches" # stage 50 gives them up if vLLM dies of them
  report_bytes "$(manifest total "$work.json")"
  rm -rf "$work"
}
main "$@"
