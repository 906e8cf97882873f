#!/usr/bin/env bash
# The VM's startup-script: fetch our code from the metadata server, check it, start the watchdog,
# run the stages. Runs at every boot, so a reboot in the middle (driver upgrade) goes on by itself.
# Needs: metadata mayfly-archive, mayfly-archive-sha256, mayfly-settings; curl, python3, tar, systemd.
# Leaves: /opt/mayfly, /run/mayfly/env, the unit mayfly-watchdog; then what startup/run.py leaves.
set -eEuo pipefail # E: the trap holds inside functions too
umask 022

readonly root="${MAYFLY_ROOT:-}"
readonly code="$root/opt/mayfly" run="$root/run/mayfly" units="$root/run/systemd/system"
readonly metadata="http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance"

attribute() {
  curl -sSf --noproxy '*' --retry 5 --retry-connrefused --max-time 30 \
    -H 'Metadata-Flavor: Google' "$metadata/attributes/$1"
}

claim() { # best effort: what is lost is only the news
  curl -sSf --noproxy '*' --retry 2 --max-time 5 -o /dev/null -X PUT -H 'Metadata-Flavor: Google' \
    --data-binary "$2" "$metadata/guest-attributes/mayfly/$1" ||
    echo "mayfly: could not publish $1"
}

fail() {
  echo "mayfly: boot failed: $1"
  claim message "$1"
  claim phase failed
  exit 1
}

unpack() {
  local archive="$run/archive.tar.gz" wanted got
  attribute mayfly-archive | base64 -d >"$archive" ||
    fail "the metadata has no readable mayfly-archive; run: pulumi up"
  wanted="$(attribute mayfly-archive-sha256)" ||
    fail "the metadata has no mayfly-archive-sha256; run: pulumi up"
  got="$(sha256sum <"$archive")"
  got="${got%% *}"
  if [[ "$got" != "$wanted" ]]; then
    fail "the startup archive is not the one that was sent (sha256 $got, wanted $wanted); run: pulumi up"
  fi
  rm -rf "$code.new"
  mkdir -p "$code.new"
  tar -xzf "$archive" -C "$code.new" --no-same-owner
  rm -rf "$code" # anew at each boot: no file of an older archive stays
  mv "$code.new" "$code"
}

configure() {
  attribute mayfly-settings >"$run/settings.json" ||
    fail "the metadata has no mayfly-settings; run: pulumi up"
  (cd "$code" && python3 -m startup.settings <"$run/settings.json" >"$run/env.new" 2>"$run/settings.why") ||
    fail "$(tail -n 1 "$run/settings.why")"
  mv "$run/env.new" "$run/env"
}

watch() { # first of all: from here on the VM ends by itself, whatever the stages do
  mkdir -p "$units"
  install -m 644 "$code/startup/mayfly-watchdog.service" "$units/mayfly-watchdog.service"
  systemctl daemon-reload
  systemctl restart mayfly-watchdog.service
}

main() {
  mkdir -p "$run" "$root/opt" "$root/var/lib/mayfly" "$root/var/log/mayfly"
  claim heartbeat "$(date -u +%Y-%m-%dT%H:%M:%SZ)" # before the phase: a beat from before a reboot looks dead
  claim phase booting
  trap 'fail "boot.sh stopped in line $LINENO"' ERR
  unpack
  configure
  watch
  cd "$code"
  set -a
  # shellcheck source=/dev/null  # made by settings.py
  source "$run/env"
  set +a
  export PYTHONPATH="$code"
  exec python3 -m startup.run
}
main "$@"
