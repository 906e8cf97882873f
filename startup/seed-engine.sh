#!/usr/bin/env bash
# Seed: the engine's environment, built once from its lock, packed, into the bucket.
# Needs: MAYFLY_ENGINE_URI, MAYFLY_ENGINE_LOCK (file in startup/locks/), uv (seed-tools.sh).
# Leaves: env.tar.gz and, last, manifest.json at MAYFLY_ENGINE_URI.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly python=3.12 out="$root/var/cache/mayfly/engine-out"

# With an interpreter of its own, and always at this path: it runs on another image than this one.
build() {
  export UV_PYTHON_INSTALL_DIR="$engine_dir/python" UV_LINK_MODE=copy
  uv venv --quiet --clear --managed-python --python "$python" "$engine_dir/env" &&
    uv pip install --quiet --compile-bytecode --python "$engine_dir/env/bin/python" --require-hashes -r "$1"
}

upload() {
  gs cp "$out/env.tar.gz" "$1/env.tar.gz" </dev/null
}

publish_manifest() {
  manifest make "$out" "$1" "vllm==$MAYFLY_ENGINE" >"$out.json" && gs cp "$out.json" "$1/manifest.json" </dev/null
}

main() {
  local uri="${MAYFLY_ENGINE_URI:?seed-engine needs the gs:// address of the engine}" status=0
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
  mkdir -p "$out"
  tar -C "$(dirname "$engine_dir")" -I 'gzip -1' -cf "$out/env.tar.gz" "$(basename "$engine_dir")" ||
    fail "no room to pack the engine; raise seeding.disk_gb in profiles/$MAYFLY_PROFILE.yaml"
  retry 4 5 upload "$uri" || fail "could not upload the engine to $uri"
  retry 3 2 publish_manifest "$uri" || fail "could not publish $uri/manifest.json"
  report_bytes "$(stat -c %s "$out/env.tar.gz")"
  rm -rf "$out" "$engine_dir"
}
main "$@"
