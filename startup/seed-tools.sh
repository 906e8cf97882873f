#!/usr/bin/env bash
# Seed, first: uv, and an environment with huggingface_hub, both pinned by hash.
# Needs: a way out to the package index.
# Leaves: uv on the stages' PATH, /opt/mayfly-seed/bin/python.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_tools() {
  UV_PYTHON_INSTALL_DIR="$seed_dir-python" uv venv --quiet --clear --managed-python --python 3.12 "$seed_dir" &&
    uv pip install --quiet --python "$seed_dir/bin/python" --require-hashes -r "$code_dir/startup/locks/seeder.lock"
}

main() {
  local lock
  lock="$(sha256sum <"$code_dir/startup/locks/seeder.lock")"
  if [[ "$(cat "$seed_dir/.complete" 2>/dev/null)" == "$lock" ]]; then
    log INFO "the tools are already in $seed_dir"
    return 0
  fi
  if ! command -v uv >/dev/null; then
    retry 3 5 python3 -m startup.seed_uv "$tools_dir/uv" || fail "could not bring uv from the package index"
  fi
  retry 3 5 install_tools || fail "could not install huggingface_hub; see $log_dir/tools.log"
  printf '%s\n' "$lock" >"$seed_dir/.complete"
}
main "$@"
