#!/usr/bin/env bash
# Stage 40: the engine, a locked environment built once by the seeding VM, bucket -> disk.
# Needs: MAYFLY_ENGINE_URI (gs:// folder with manifest.json and env-<n>.tar.gz).
# Leaves: /opt/mayfly-engine/env/bin/vllm; .complete beside it holds the manifest's sha256.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly cache="$root/var/cache/mayfly/engine"

# bring URI ARCHIVE...
bring() {
  printf '%s\n' "${@:2}" | sed "s|^|$1/|" | python3 -m startup.pullers "$cache"
}

# unpack ARCHIVE...  All at once: one core would take more than a minute. Each twice if it must:
# tar gives a file up whose folder another tar makes in that moment; the second time it is there.
unpack() {
  # shellcheck disable=SC2016 # for the inner shell
  printf '%s\n' "$@" | xargs -P "$(nproc)" -I '{}' bash -c '"$@" || "$@"' twice \
    tar -C "$(dirname "$engine_dir")" -xzf "$cache/{}" --no-same-owner
}

main() {
  local uri="${MAYFLY_ENGINE_URI:?stage 40 needs the gs:// address of the engine}" names archives version
  mkdir -p "$cache"
  bring_manifest "$uri" "$cache.json" || fail "there is no engine at $uri; run: mayfly seed $MAYFLY_PROFILE"
  version="$(sha256sum <"$cache.json")"
  if [[ "$(cat "$engine_dir/.complete" 2>/dev/null)" == "$version" ]]; then
    log INFO "the engine is already in $engine_dir"
    return 0
  fi
  names="$(manifest names "$cache.json")" || fail "bad $uri/manifest.json; run: mayfly seed $MAYFLY_PROFILE"
  mapfile -t archives < <(grep '^env-.*\.tar\.gz$' <<<"$names")
  if ((${#archives[@]} == 0)); then
    fail "the manifest at $uri names no env-<n>.tar.gz; run: mayfly seed $MAYFLY_PROFILE"
  fi
  retry 4 5 bring "$uri" "${archives[@]}" || fail "could not pull the engine from $uri"
  manifest wrong "$cache.json" "$cache" || fail "the engine at $uri is not what its manifest says; run: mayfly seed $MAYFLY_PROFILE"
  report_bytes "$(manifest total "$cache.json")"
  rm -rf "$engine_dir"
  mkdir -p "$(dirname "$engine_dir")"
  unpack "${archives[@]}" || fail "could not unpack the engine; is the disk full?"
  rm -rf "${cache:?}"
  if [[ ! -x "$engine_dir/env/bin/vllm" ]]; then
    fail "the engine at $uri holds no env/bin/vllm; run: mayfly seed $MAYFLY_PROFILE"
  fi
  printf '%s\n' "$version" >"$engine_dir/.complete"
}
main "$@"
