# shellcheck shell=bash
# What both halves of stage 30 use, beside lib.sh, which comes with it. Sourced, never run.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# pull config|weights  One try of startup/pull.py. What no further try would help ends the stage.
pull() {
  local status=0
  MAYFLY_STAGE="$stage" python3 -m startup.pull "$1" || status=$?
  if ((status == 3)); then exit 1; fi # it has left why
  return "$status"
}
