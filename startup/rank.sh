#!/usr/bin/env bash
# Stage rank: one rank of the model, with made-up weights, measured in vLLM's own unit.
# Needs: what stages 10 and 40 leave; MAYFLY_CASE (JSON, for mayfly/probe_rank.py), MAYFLY_CACHE_BUCKET,
#        where a node may create.
# Leaves: /run/mayfly/case.json, for startup/serve.py; the engine's log, its figures in it, as probes/<this VM's number>/engine.log in that bucket.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly last_figure='^RESULT .*"gpu_gib"' # said when all else is measured

wait_until_it_ended() {
  while systemctl is-active --quiet "$unit"; do sleep 1; done
}

# Whatever became of it: figures that were measured before an end are figures. A node may not
# overwrite: where only the answer to a first try was lost, the others are refused.
keep_log() {
  local number uri
  number="$(python3 -c 'from startup import cloud; print(cloud.who_and_when()[0])')"
  uri="gs://$MAYFLY_CACHE_BUCKET/probes/$number/engine.log"
  retry 3 5 gs cp "$vllm_log" "$uri" </dev/null || cloud get "$uri" >/dev/null ||
    fail "could not create $uri; see $log_dir/$stage.log"
}

main() {
  : "${MAYFLY_CASE:?stage rank needs to be told what to measure}" "${MAYFLY_CACHE_BUCKET:?stage rank needs the cache bucket}"
  printf '%s' "$MAYFLY_CASE" >"$run_dir/case.json"        # systemd need not agree with us on backslashes
  mkdir -p "$ram_dir"                                     # what the unit shows vLLM must be there
  (umask 077 && mkdir -p "$key_dir" && : >"$key_dir/env") # nobody asks this engine anything
  start_unit
  wait_until_it_ended
  keep_log
  grep -Eq "$last_figure" "$vllm_log" || fail "the engine ended early: $(last_words)"
}
main "$@"
