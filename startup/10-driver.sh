#!/usr/bin/env bash
# Stage 10: the NVIDIA driver that the engine needs, upgraded only where it is too old.
# Needs: MAYFLY_DRIVER_BRANCH ("580", or "" for any), MAYFLY_DRIVER_URI (gs:// folder of .deb files
#        with manifest.json), MAYFLY_MACHINE, MAYFLY_ENGINE (vLLM's version).
# Leaves: a driver of that branch or newer with the fabric manager of the same version, loaded.
#         Exit status 75 asks the runner for a reboot.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly attempts_file="$state_dir/driver-attempts" packages="$root/var/cache/mayfly/driver"
readonly services=(nvidia-fabricmanager nvidia-persistenced nvidia-dcgm)

driver_version() { # of the running module, else of the one on disk, else ""
  local version
  version="$(timeout 60 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)" || version=""
  if [[ ! "$version" =~ ^[0-9]+(\.[0-9]+)+$ ]]; then
    version="$(modinfo -F version nvidia 2>/dev/null)" || version=""
  fi
  printf '%s' "$version"
}

# CUDA 13 wheels (vLLM 0.20 and newer) need 580 on any GPU; before them only H100 does, whose
# Marlin kernels come as PTX that driver 570 cannot read. A100 runs them as they are.
wanted_branch() {
  local minor
  if [[ "$MAYFLY_MACHINE" == a2-* && "$MAYFLY_ENGINE" =~ ^0\.([0-9]+)\. ]]; then
    minor="${BASH_REMATCH[1]}"
    if ((minor < 20)); then return 0; fi
  fi
  printf '%s' "$MAYFLY_DRIVER_BRANCH"
}

new_enough() { # VERSION BRANCH
  [[ -n "$1" ]] && ((${1%%.*} >= $2))
}

fetch_packages() {
  local uri=$1 status=0
  mkdir -p "$packages"
  cloud get "$uri/manifest.json" >"$packages.json" || status=$?
  if ((status == 4)); then
    fail "the image's driver is too old and there are no driver packages at $uri; run: mayfly seed $MAYFLY_PROFILE"
  elif ((status == 5)); then
    fail "the VM may not read $uri; run: pulumi up --stack foundation"
  elif ((status != 0)); then
    fail "could not read $uri/manifest.json (exit $status)"
  fi
  manifest absent "$packages.json" "$packages" | cut -f 2 >"$packages.list" || fail "the manifest at $uri is not usable"
  if [[ -s "$packages.list" ]]; then
    retry 3 5 pull_packages "$uri" || fail "could not pull the driver packages from $uri"
  fi
  manifest wrong "$packages.json" "$packages" || fail "a driver package from $uri is not what its manifest says"
  report_bytes "$(manifest total "$packages.json")"
}

pull_packages() {
  sed "s|^|$1/|" "$packages.list" | gs -m cp -I "$packages/"
}

refuse_secure_boot() { # our modules are built on the machine: nobody has signed them
  if mokutil --sb-state 2>/dev/null | grep -qi 'secureboot enabled'; then
    fail "driver $1 is too old and Secure Boot forbids the upgraded one; use an image with driver $2 or turn Secure Boot off"
  fi
}

install_packages() {
  local service
  for service in "${services[@]}"; do
    systemctl stop "$service.service" >/dev/null 2>&1 || log INFO "$service was not running"
  done
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
  # The image's own upgrades may hold the lock in the first minutes.
  apt-get install -y --no-install-recommends --allow-downgrades --allow-change-held-packages \
    -o DPkg::Lock::Timeout=300 "$packages"/*.deb </dev/null ||
    fail "apt-get could not install the driver packages; see $log_dir/$stage.log"
}

reload_modules() { # fragile while anything holds the old module: then a reboot does it
  modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia || return 1
  modprobe nvidia || return 1
  modprobe nvidia_uvm
}

start_services() {
  local version=$1 fabric
  fabric="$(dpkg-query -W -f='${Version}\n' 'nvidia-fabricmanager*' 2>/dev/null | grep -m 1 .)" || fabric=""
  if [[ -n "$fabric" && "${fabric%%-*}" != "$version" ]]; then
    fail "driver $version and fabric manager ${fabric%%-*} differ, CUDA would refuse with error 802; run: mayfly seed $MAYFLY_PROFILE"
  fi
  systemctl start nvidia-persistenced.service || log WARN "nvidia-persistenced does not start"
  if [[ -n "$fabric" ]]; then
    systemctl restart nvidia-fabricmanager.service || fail "nvidia-fabricmanager $fabric does not start"
  fi
  if command -v nvidia-modprobe >/dev/null; then
    nvidia-modprobe -u -c=0 || log WARN "nvidia-modprobe could not make /dev/nvidia-uvm"
  fi
}

upgrade() {
  local old=$1 branch=$2 attempts version
  attempts="$(cat "$attempts_file" 2>/dev/null || printf 0)"
  if ((attempts >= 2)); then
    fail "driver ${old:-none} is still too old after $attempts upgrades, $branch is needed; see $log_dir/$stage.log"
  fi
  refuse_secure_boot "${old:-none}" "$branch"
  log INFO "driver ${old:-none} -> branch $branch"
  fetch_packages "${MAYFLY_DRIVER_URI:?stage 10 needs the gs:// address of the driver packages}"
  printf '%s\n' "$((attempts + 1))" >"$attempts_file"
  install_packages
  if ! reload_modules; then
    log INFO "the old module is in use"
    exit 75
  fi
  version="$(driver_version)"
  if ! new_enough "$version" "$branch"; then
    log INFO "the module is still ${version:-none}"
    exit 75
  fi
  start_services "$version"
  log INFO "driver $version, without a reboot"
}

main() {
  local branch version
  branch="$(wanted_branch)"
  version="$(driver_version)"
  if [[ -z "$branch" ]] || new_enough "$version" "$branch"; then
    log INFO "driver ${version:-none} is left alone (needed: ${branch:-any})"
    if [[ -s "$attempts_file" ]]; then start_services "$version"; fi # after our reboot
    return 0
  fi
  upgrade "$version" "$branch"
}
main "$@"
