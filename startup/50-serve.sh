#!/usr/bin/env bash
# Stage 50: vLLM as a systemd unit, until it answers.
# Needs: what stages 10 to 40 leave; MAYFLY_API_KEY_SECRET (projects/P/secrets/S), MAYFLY_PORT.
# Leaves: unit mayfly-vllm running, /health answering 200 on loopback.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly unit=mayfly-vllm.service key_dir="$root/run/mayfly-key" vllm_log="$log_dir/vllm.log"

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

healthy() {
  curl -sf --noproxy '*' --max-time 2 -o /dev/null "http://127.0.0.1:$MAYFLY_PORT/health"
}

# The runner's limit and start_s end this; here only vLLM's own death does.
wait_healthy() {
  local began=$SECONDS
  while ! healthy; do
    if ! systemctl is-active --quiet "$unit"; then
      fail "vLLM ended $((SECONDS - began)) s after its start: $(last_words)"
    fi
    sleep 0.5
  done
  log INFO "vLLM answers after $((SECONDS - began)) s"
}

main() {
  : "${MAYFLY_API_KEY_SECRET:?stage 50 needs the name of the secret that holds the API key}" "${MAYFLY_PORT:?stage 50 needs a port}"
  if systemctl is-active --quiet "$unit" && healthy; then
    log INFO "vLLM already answers"
    return 0
  fi
  fetch_key
  start_unit
  wait_healthy
}
main "$@"
