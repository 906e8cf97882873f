#!/usr/bin/env bash
# Stage 40: the engine, a locked environment built once by the seeding VM, bucket -> disk.
# Needs: MAYFLY_ENGINE_URI (gs:// folder with manifest.json and env.tar.gz or env.tar.zst).
# Leaves: /opt/mayfly-engine/env/bin/vllm; .complete beside it holds the archive's sha256.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly cache="$root/var/cache/mayfly/engine"

fetch_manifest() {
  local uri=$1 status=0
  cloud get "$uri/manifest.json" >"$cache.json" || status=$?
  case "$status" in
  0) ;;
  4) fail "there is no engine at $uri; run: mayfly seed $MAYFLY_PROFILE" ;;
  5) fail "the VM may not read $uri; run: pulumi up --stack foundation" ;;
  *) fail "could not read $uri/manifest.json (exit $status)" ;;
  esac
}

pull() {
  gs cp "$1/$2" "$cache/$2" </dev/null
}

main() {
  local uri="${MAYFLY_ENGINE_URI:?stage 40 needs the gs:// address of the engine}" archive version
  mkdir -p "$cache"
  fetch_manifest "$uri"
  version="$(sha256sum <"$cache.json")"
  if [[ "$(cat "$engine_dir/.complete" 2>/dev/null)" == "$version" ]]; then
    log INFO "the engine is already in $engine_dir"
    return 0
  fi
  archive="$(manifest absent "$cache.json" "$root/nowhere" | cut -f 2 | grep -m 1 '^env\.tar\.')" ||
    fail "the manifest at $uri names no env.tar; run: mayfly seed $MAYFLY_PROFILE"
  retry 4 5 pull "$uri" "$archive" || fail "could not pull $uri/$archive"
  manifest wrong "$cache.json" "$cache" || fail "$uri/$archive is not what its manifest says; run: mayfly seed $MAYFLY_PROFILE"
  report_bytes "$(manifest total "$cache.json")"
  rm -rf "$engine_dir"
  mkdir -p "$(dirname "$engine_dir")"
  tar -xaf "$cache/$archive" -C "$(dirname "$engine_dir")" --no-same-owner || fail "could not unpack $archive"
  rm -f "${cache:?}/$archive"
  if [[ ! -x "$engine_dir/env/bin/vllm" ]]; then
    fail "$uri/$archive holds no env/bin/vllm; run: mayfly seed $MAYFLY_PROFILE"
  fi
  printf '%s\n' "$version" >"$engine_dir/.complete"
}
main "$@"
