#!/usr/bin/env bash
# Stage 50: vLLM as a systemd unit, until it answers. It starts while its shards still arrive, by
# the plugin in vllm_plugin/; where that dies, once more when they are all there, by vLLM's own
# loader (/run/mayfly/plain-loader); where it dies of restored kernel caches, once more without those.
# Needs: what stages 10 to 40 leave, of stage 30 all but the shards; MAYFLY_API_KEY_SECRET
#        (projects/P/secrets/S), MAYFLY_PORT.
# Leaves: unit mayfly-vllm running, /health answering 200 on loopback.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly caches_mark="$run_dir/kernel-caches"
readonly weights="$ram_dir/weights"

# From Secret Manager straight to a file that only root can open; systemd reads it from there.
fetch_key() {
  local status=0 key
  key="$(cloud secret "$MAYFLY_API_KEY_SECRET")" || status=$?
  case "$status" in
  0) ;;
  4) fail "there is no API key in $MAYFLY_API_KEY_SECRET; run: pulumi up --stack foundation" ;;
  5) fail "the VM may not read $MAYFLY_API_KEY_SECRET; run: pulumi up --stack foundation" ;;
  *) fail "could not read $MAYFLY_API_KEY_SECRET (exit $status)" ;;
  esac
  if [[ ! "$key" =~ ^[A-Za-z0-9_.-]{16,}$ ]]; then # what follows would be an open endpoint
    fail "$MAYFLY_API_KEY_SECRET holds no usable key (16 characters of A-Z a-z 0-9 _ . - or more)"
  fi
  (umask 077 && mkdir -p "$key_dir")
  (umask 077 && printf 'VLLM_API_KEY=%s\n' "$key" >"$key_dir/env")
}

weights_are_here() {
  [[ "$(cat "$weights/.complete" 2>/dev/null)" == "$MAYFLY_WEIGHTS_URI" ]]
}

# The weights' own stage ends this wait, one way or the other: when it fails, so does the start.
wait_for_weights() {
  until weights_are_here; do sleep 0.5; done
}

# Without one vLLM guesses it from the shards that happen to be there.
names_its_dtype() {
  grep -Eq '"(torch_)?dtype": *"' "$weights/config.json"
}

# What vLLM does, by the last line of its log that says so: the first two are the plugin's lines,
# the others those of vLLM 0.24.0.
doing() {
  tail -n 500 "$vllm_log" | sed -nE \
    -e 's/.*mayfly: waiting for [^:]+: ([0-9]+ of [0-9]+) here.*/waits for shards, \1 are here/p' \
    -e 's/.*mayfly: group ([0-9]+ of [0-9]+) is here.*/loads shards, group \1/p' \
    -e 's/.*Loading safetensors [^:]*: +([0-9]+%).*/loads shards, \1/p' \
    -e 's/.*Model loading took .*/has its weights and compiles/p' \
    -e 's/.*torch\.compile took .*/warms up and measures its memory/p' \
    -e 's/.*GPU KV cache size: .*/captures CUDA graphs/p' \
    -e 's/.*init engine .* took .*/opens its port/p' | tail -n 1
}

# Tell what is new at once, and what is not twice a minute.
tell_progress() {
  local now
  now="$(doing)"
  now="vLLM ${now:-imports its code and reads its configuration}"
  if [[ "$now" != "$told" ]] || ((SECONDS - told_at >= 30)); then
    say "$now, $((SECONDS - began)) s after its start"
    told="$now" told_at=$SECONDS
  fi
}

healthy() {
  curl -sf --noproxy '*' --max-time 2 -o /dev/null "http://127.0.0.1:$MAYFLY_PORT/health"
}

# The runner's limit and start_s end this; here only vLLM's own death does: `death` says how.
wait_healthy() {
  local began=$SECONDS told="" told_at=0
  until healthy; do
    if ! systemctl is-active --quiet "$unit"; then
      death="vLLM ended $((SECONDS - began)) s after its start: $(last_words)"
      return 1
    fi
    tell_progress
    sleep 0.5
  done
  log INFO "vLLM answers after $((SECONDS - began)) s"
}

# The plugin has done its part, or the command line itself is wrong: no other start would help.
is_not_the_plugin() {
  grep -Eq 'mayfly: all groups loaded|^vllm( serve)?: error:' "$vllm_log"
}

# Kernels that a start died of must not end this machine; the mark holds their address.
drop_caches() {
  local uri cache
  if [[ ! -e "$caches_mark" ]] || grep -Eq '^vllm( serve)?: error:' "$vllm_log"; then return 1; fi
  uri="$(cat "$caches_mark")"
  cache="$(readlink -f "$root/var/cache/mayfly-vllm")"
  say "vLLM starts again without the kernel caches of $uri; $death"
  find "$cache" -mindepth 1 -delete
  mv "$caches_mark" "$run_dir/bad-caches" # stage 70 saves others after them
}

start() {
  local with_plugin=1 death=""
  if ! weights_are_here && ! names_its_dtype; then
    say "the model's config.json names no dtype: vLLM starts when all shards are here"
    wait_for_weights
  fi
  if weights_are_here; then with_plugin=""; fi # startup/serve.py sees the same
  start_unit
  until wait_healthy; do # each of the two ways out is there once
    if [[ -n "$with_plugin" ]] && ! is_not_the_plugin; then
      say "vLLM could not start before its shards were here, and starts again when they are; $death"
      wait_for_weights
      touch "$run_dir/plain-loader"
      with_plugin=""
    elif ! drop_caches; then
      fail "$death"
    fi
    mv "$vllm_log" "$vllm_log.early"
    start_unit
  done
}

main() {
  : "${MAYFLY_API_KEY_SECRET:?stage 50 needs the name of the secret that holds the API key}" "${MAYFLY_PORT:?stage 50 needs a port}"
  if systemctl is-active --quiet "$unit" && healthy; then
    log INFO "vLLM already answers"
    return 0
  fi
  fetch_key
  start
}
main "$@"
