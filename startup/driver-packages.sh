# shellcheck shell=bash
# The driver's packages: from the bucket, checked, onto this machine. Sourced by stage 10 after lib.sh.
# Needs: apt, the packages' own dependencies (compiler, kernel headers) on the image; no internet.

readonly packages="${root?lib.sh comes first}/var/cache/mayfly/driver" apt_said="${run_dir:?}/apt.txt"
readonly lock_wait_s=300 # the image's own upgrades hold apt's lock in the first minutes

# fetch_packages URI  What the manifest there names, into $packages, every file checked.
fetch_packages() {
  local uri=$1 attempt wrong status
  look_for_packages "$uri"
  for attempt in 1 2; do
    manifest absent "$packages.json" "$packages" | cut -f 2 >"$packages.absent" || fail "the manifest at $uri is not usable"
    if [[ -s "$packages.absent" ]]; then
      retry 3 5 pull_packages "$uri" || fail "could not pull the driver packages from $uri; run: mayfly seed $MAYFLY_PROFILE"
    fi
    status=0
    wrong="$(manifest wrong "$packages.json" "$packages")" || status=$?
    if ((status == 0)); then
      report_bytes "$(manifest total "$packages.json")"
      return 0
    elif ((status != 1)); then
      fail "could not check the driver packages against $uri/manifest.json"
    fi
    log WARN "try $attempt: not what the manifest says: ${wrong//$'\n'/, }"
    (cd "$packages" && xargs -r -d '\n' rm -f -- <<<"$wrong")
  done
  fail "driver package ${wrong//$'\n'/, } at $uri is not what its manifest says; run: mayfly seed $MAYFLY_PROFILE"
}

look_for_packages() {
  mkdir -p "$packages"
  bring_manifest "$1" "$packages.new" ||
    fail "driver ${works:-none} will not do and there are no driver packages at $1; run: mayfly seed $MAYFLY_PROFILE"
  if ! cmp -s "$packages.new" "$packages.json"; then rm -rf "${packages:?}"/*; fi # another seed's
  mv "$packages.new" "$packages.json"
}

pull_packages() {
  sed "s|^|$1/|" "$packages.absent" | gs -m cp -I "$packages/"
}

# packaged NAME  That package's version in $packages: name_580.159.04-0ubuntu1_amd64.deb -> 580.159.04
packaged() {
  find "$packages" -name "$1_*.deb" -printf '%f\n' | sed -nE 's/^[^_]+_([0-9]+%3a)?([0-9.]+).*/\2/p' | head -n 1
}

older() { # VERSION THAN
  [[ "$1" != "$2" && "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" == "$1" ]]
}

# install_packages FILE...
install_packages() {
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  retry 2 2 apt_install "$@" || fail "apt-get could not install the driver packages: $(apt_words)"
}

apt_install() {
  if apt-get install -y --no-install-recommends --allow-downgrades --allow-change-held-packages \
    -o "DPkg::Lock::Timeout=$lock_wait_s" "$@" </dev/null 2>&1 | tee "$apt_said" >&2; then
    return 0
  fi
  if grep -q 'Could not get lock' "$apt_said"; then # it was waited for; again would be the stage's limit
    fail "apt's lock did not come free within $lock_wait_s s: $(apt_words)"
  elif grep -q 'dpkg --configure -a' "$apt_said"; then # an upgrade was cut off, by a reboot perhaps
    dpkg --configure -a </dev/null >&2 || log WARN "dpkg could not finish what was begun"
  fi
  return 1
}

# apt's last words, those that say why.
apt_words() {
  { grep -E '^(E:|dpkg: error|Error!)' "$apt_said" || tail -n 2 "$apt_said"; } | tail -n 3 | cut -c 1-200 | paste -s -d ' '
}

# Why there is no module although all packages are there.
module_words() {
  grep -iE 'skipped|headers' "$apt_said" | tail -n 1 | cut -c 1-200 || true
}
