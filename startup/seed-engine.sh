#!/usr/bin/env bash
# Seed: the engine's environment, built once from its lock, packed, into the bucket.
# Needs: MAYFLY_ENGINE_URI, MAYFLY_ENGINE_LOCK (file in startup/locks/), uv (seed-tools.sh).
# Leaves: env-<n>.tar.gz and, last, manifest.json at MAYFLY_ENGINE_URI.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly python=3.12 out="$root/var/cache/mayfly/engine-out"

# With an interpreter of its own, and always at this path: it runs on another image than this one.
build() {
  export UV_PYTHON_INSTALL_DIR="$engine_dir/python" UV_LINK_MODE=copy
  uv venv --quiet --clear --managed-python --python "$python" "$engine_dir/env" &&
    uv pip install --quiet --compile-bytecode --python "$engine_dir/env/bin/python" --require-hashes -r "$1"
}

# uv compiles what it installs, the interpreter comes without: on the node nobody may write there,
# and each of the server's processes would compile its library again.
compile_library() {
  "$engine_dir/env/bin/python" -m compileall -q -j 0 "$engine_dir/python" >/dev/null ||
    log WARN "part of the interpreter's own library has no byte code"
}

upload() {
  local said
  said="$(python3 -m startup.seed_upload "$out" "$1" "vllm==$MAYFLY_ENGINE")" || fail "${said##*$'\n'}"
}

main() {
  local uri="${MAYFLY_ENGINE_URI:?seed-engine needs the gs:// address of the engine}" status=0 size
  local lock="$code_dir/startup/locks/${MAYFLY_ENGINE_LOCK:?seed-engine needs the name of a lock}"
  cloud get "$uri/manifest.json" >/dev/null || status=$?
  case "$status" in
  0) log INFO "the engine is already at $uri" && return 0 ;;
  4) ;;
  *) fail "could not look at $uri (exit $status): the seeder needs objectUser on the bucket; run: pulumi up --stack foundation" ;;
  esac
  if [[ ! -r "$lock" ]]; then
    fail "startup/locks has no $MAYFLY_ENGINE_LOCK; correct engine.lock in profiles/$MAYFLY_PROFILE.yaml"
  fi
  say "building the engine, vLLM $MAYFLY_ENGINE"
  retry 3 10 build "$lock" || fail "could not install vLLM $MAYFLY_ENGINE from its lock; see $log_dir/engine.log"
  if [[ ! -x "$engine_dir/env/bin/vllm" ]]; then
    fail "the lock $MAYFLY_ENGINE_LOCK brings no vllm program"
  fi
  compile_library
  say "packing the engine"
  rm -rf "$out"
  python3 -m startup.seed_pack "$engine_dir" "$out" ||
    fail "could not pack the engine; is the disk full? Raise seeding.disk_gb in profiles/$MAYFLY_PROFILE.yaml"
  size="$(du -sb "$out" | cut -f 1)"
  say "uploading the engine, $((size / 1000000)) MB"
  upload "$uri"
  report_bytes "$size"
  rm -rf "$out" "$engine_dir"
}
main "$@"
