# shellcheck shell=bash
# What every stage uses. Sourced, never run.
# Needs: bash 5, curl, python3; the settings as MAYFLY_* in the environment.
set -euo pipefail

export HOME="${HOME:-/root}" # a startup script may have none, and gsutil wants one
# shellcheck disable=SC2034 # these lines are for the stages
readonly root="${MAYFLY_ROOT:-}"
readonly run_dir="$root/run/mayfly" state_dir="$root/var/lib/mayfly" log_dir="$root/var/log/mayfly"
# shellcheck disable=SC2034
readonly ram_dir="$root/mnt/mayfly" engine_dir="$root/opt/mayfly-engine" seed_dir="$root/opt/mayfly-seed" key_dir="$root/run/mayfly-key"
readonly tools_dir="$root/opt/mayfly-tools"
PATH="$PATH:$tools_dir"
code_dir="$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")"
readonly code_dir
export PYTHONPATH="$code_dir"
readonly stage="${MAYFLY_STAGE:-$(basename "$0" .sh)}"
mkdir -p "$run_dir"/{why,bytes} "$state_dir" "$log_dir"

# log LEVEL TEXT...  One line to the serial console and the stage's log.
log() {
  printf '%s %s\n' "$1" "${*:2}" >&2
}

# fail TEXT  Ends the stage; TEXT is what the user reads: what happened, what to do.
fail() {
  log ERROR "$1"
  printf '%s\n' "$1" >"$run_dir/why/$stage"
  exit 1
}

# retry TRIES DELAY_S CMD...  The delay doubles. Running out of tries returns
# CMD's status, never a quiet 0. CMD runs without errexit: give one command.
retry() {
  local tries=$1 delay_s=$2 i status=0
  shift 2
  for ((i = 1; i <= tries; i++)); do
    if "$@"; then return 0; else status=$?; fi
    log WARN "try $i of $tries, exit $status: $*"
    if ((i < tries)); then sleep "$delay_s"; fi
    delay_s=$((delay_s * 2))
  done
  return "$status"
}

# report_bytes N  What this stage moved; the timeline shows the rate.
report_bytes() {
  printf '%s\n' "$1" >"$run_dir/bytes/$stage"
}

# say TEXT  Progress for the user, beside the phase.
say() {
  log INFO "$1"
  python3 -c 'import sys; from startup import words; words.set_message(sys.argv[1])' "$1"
}

# gs ARGS...  gsutil that keeps its state on the VM and says little.
gs() {
  gsutil -q -o "GSUtil:state_dir=$state_dir/gsutil" "$@"
}

# cloud get GS_URI | secret NAME  Prints the content; exit 4: not there, 5: no right to it.
cloud() {
  python3 -m startup.cloud "$@"
}

# bring_manifest URI FILE  Status 4: there is none at URI. Any other trouble ends the stage.
bring_manifest() {
  local status=0
  cloud get "$1/manifest.json" >"$2" || status=$?
  case "$status" in
  0 | 4) return "$status" ;;
  5) fail "the VM may not read $1; run: pulumi up --stack foundation" ;;
  *) fail "could not read $1/manifest.json (exit $status)" ;;
  esac
}

# manifest ARGS...  See startup/manifest.py.
manifest() {
  python3 -m startup.manifest "$@"
}

# vLLM's unit, for the stages that start it.
readonly unit=mayfly-vllm.service vllm_log="$log_dir/vllm.log"

start_unit() {
  mkdir -p "$root/run/systemd/system"
  install -m 644 "$code_dir/startup/$unit" "$root/run/systemd/system/$unit"
  systemctl daemon-reload
  : >"$vllm_log"
  systemctl restart "$unit"
}

last_words() {
  grep -v '^[[:space:]]*$' "$vllm_log" | tail -n 5 | cut -c 1-180 | paste -s -d '|' || true
}
