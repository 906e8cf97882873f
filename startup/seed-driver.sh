#!/usr/bin/env bash
# Seed: the driver's packages for GPU machines whose image has an older one, into the bucket.
# Needs: MAYFLY_DRIVER_BRANCH ("580", or "" for none), MAYFLY_DRIVER_URI; apt, a way out.
# Leaves: *.deb and, last, manifest.json at MAYFLY_DRIVER_URI.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly work="$root/var/cache/mayfly/driver-seed"
# The oldest Ubuntu that our GPU images use: its packages install on the newer ones too.
readonly suite=jammy keyring="$root/usr/share/keyrings/ubuntu-archive-keyring.gpg"

# A package tree of its own: this machine is Debian, the packages are for Ubuntu. Its status file
# is empty, so that apt brings everything that the driver depends on.
prepare_apt() {
  local pocket
  mkdir -p "$work"/{lists/partial,archives/partial,debs}
  : >"$work/status"
  for pocket in "$suite" "$suite-updates" "$suite-security"; do
    printf 'deb [arch=amd64 signed-by=%s] http://archive.ubuntu.com/ubuntu %s main restricted universe\n' "$keyring" "$pocket"
  done >"$work/sources.list"
  if [[ ! -r "$keyring" ]]; then
    apt-get update </dev/null || return 1
    apt-get install -y --no-install-recommends ubuntu-keyring </dev/null
  fi
}

ubuntu_apt() {
  apt-get -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Architecture=amd64 \
    -o Dir::Cache::archives="$work/archives" "$@" </dev/null
}

download() {
  prepare_apt || return 1
  ubuntu_apt update || return 1
  ubuntu_apt --download-only --yes --no-install-recommends install \
    "nvidia-headless-$1-server-open" "nvidia-utils-$1-server" "nvidia-fabricmanager-$1" "libnvidia-nscq-$1"
}

# The machine has its own libc and compiler; what it lacks is the driver and what builds it.
keep_driver_only() {
  find "$work/archives" -maxdepth 1 \( -name '*nvidia*.deb' -o -name 'dkms_*.deb' \) -exec mv -t "$work/debs" {} +
}

# A package's upstream version: name_580.159.04-0ubuntu1_amd64.deb -> 580.159.04
version_of() {
  find "$work/debs" -name "$1_*.deb" -printf '%f\n' | sed -E 's/^[^_]+_([0-9]+%3a)?([^-_]+).*/\2/' | head -n 1
}

check_versions() {
  local driver fabric
  driver="$(version_of "nvidia-utils-$1-server")" fabric="$(version_of "nvidia-fabricmanager-$1")"
  if [[ -z "$driver" || "$driver" != "$fabric" ]]; then
    fail "the archive has driver ${driver:-none} but fabric manager ${fabric:-none}, which CUDA refuses (error 802); try again in a day"
  fi
  log INFO "driver $driver with its fabric manager"
}

upload() {
  gs -m cp "$work"/debs/*.deb "$1/" </dev/null
}

publish_manifest() {
  manifest make "$work/debs" "$1" "ubuntu $suite, branch $MAYFLY_DRIVER_BRANCH" >"$work/manifest.json" &&
    gs cp "$work/manifest.json" "$1/manifest.json" </dev/null
}

# Whether the bucket holds what its manifest says; a damaged folder is filled anew.
published() {
  local uri=$1 status=0 wrong
  mkdir -p "$work"
  cloud get "$uri/manifest.json" >"$work/published.json" || status=$?
  case "$status" in
  0) ;;
  4) return 1 ;;
  *) fail "could not look at $uri (exit $status): the seeder needs objectUser on the bucket; run: pulumi up --stack foundation" ;;
  esac
  wrong="$(manifest changed "$work/published.json" "$uri" 2>&1)" || status=$?
  if ((status != 0)); then log WARN "$uri is not what its manifest says: ${wrong//$'\n'/, }"; fi
  return "$status"
}

main() {
  local branch="${MAYFLY_DRIVER_BRANCH-}" uri="${MAYFLY_DRIVER_URI-}"
  if [[ -z "$branch" ]]; then
    log INFO "this engine runs on any driver"
    return 0
  fi
  if published "$uri"; then
    log INFO "the driver packages are already at $uri"
    return 0
  fi
  say "fetching the packages of driver $branch"
  retry 3 10 download "$branch" || fail "could not fetch the packages of driver $branch; see $log_dir/driver-packages.log"
  keep_driver_only
  check_versions "$branch"
  retry 4 5 upload "$uri" || fail "could not upload the driver packages to $uri"
  retry 3 2 publish_manifest "$uri" || fail "could not publish $uri/manifest.json"
  report_bytes "$(du -sb "$work/debs" | cut -f 1)"
}
main "$@"
