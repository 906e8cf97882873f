#!/usr/bin/env bash
# Stage 10: the NVIDIA driver that GPU and engine need, with the fabric manager of its very version.
# What works is left alone, newer ones too.
# Needs: MAYFLY_MACHINE, MAYFLY_GPU_COUNT, MAYFLY_ENGINE (vLLM's version), MAYFLY_DRIVER_BRANCH ("580",
#        or "" for any), MAYFLY_DRIVER_URI (gs:// folder of .deb files with manifest.json).
# Leaves: that driver loaded, its services running. Exit status 75 asks the runner for a reboot;
#         /run/mayfly/reboot-planned says so as soon as it is known, minutes before.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/driver-packages.sh"

readonly attempts_file="$state_dir/driver-attempts" max_reboots=2
readonly fabric_unit=nvidia-fabricmanager.service persistence_unit=nvidia-persistenced.service
readonly modules=(nvidia_peermem nvidia_uvm nvidia_drm nvidia_modeset nvidia) # users before used
# What was done, in words; "" on a machine that needed nothing.
changed=""

# What is there. works: the version that nvidia-smi answers with, so that module and libraries agree.
look() {
  local said
  # A line for each GPU. No `head`: cut off, nvidia-smi would fail with SIGPIPE.
  said="$(timeout 60 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null)" || said=""
  if [[ "${said%%$'\n'*}" =~ ^(.+),\ ([0-9]+(\.[0-9]+)+)$ ]]; then
    gpu="${BASH_REMATCH[1]}" works="${BASH_REMATCH[2]}"
  else
    gpu="GPUs of $MAYFLY_MACHINE" works=""
  fi
  running="$(cat "$root/sys/module/nvidia/version" 2>/dev/null)" || running=""
  on_disk="$(modinfo -F version nvidia 2>/dev/null)" || on_disk=""
  fabric="$(dpkg-query -W -f='${db:Status-Status} ${Package} ${Version}\n' 'nvidia-fabricmanager*' 2>/dev/null |
    sed -nE 's/^installed nvidia-fabricmanager(-[0-9]+)? ([0-9]+:)?([0-9.]+).*/\3/p')" || true # no such package
  fabric="${fabric%%$'\n'*}"
  fabric_state="$(systemctl is-active "$fabric_unit" 2>/dev/null)" || true # says which, and fails
  # Of no package, but it runs: then it matches, for it ends at once beside another driver.
  if [[ -z "$fabric" && "$fabric_state" == active ]]; then fabric="$works"; fi
  secure_boot=off
  if mokutil --sb-state 2>/dev/null | grep -qi 'secureboot enabled'; then secure_boot=on; fi
}

# CUDA 13 wheels (vLLM 0.20 and newer) need 580 on any GPU; before them only H100 does, whose
# Marlin kernels come as PTX that driver 570 cannot read. A100 runs them as they are.
wanted_branch() {
  if [[ "$MAYFLY_MACHINE" == a2-* && "$MAYFLY_ENGINE" =~ ^0\.([0-9]+)\. ]] && ((BASH_REMATCH[1] < 20)); then
    return 0
  fi
  printf '%s' "$MAYFLY_DRIVER_BRANCH"
}

enough() { # VERSION
  [[ -n "$1" ]] && { [[ -z "$branch" ]] || ((${1%%.*} >= branch)); }
}

# All eight GPUs of a host hang on NVSwitches; without the manager CUDA says error 802.
fabric_fits() {
  ((MAYFLY_GPU_COUNT < 8)) || [[ -n "$fabric" && "$fabric" == "$works" ]]
}

preflight() {
  local driver="driver $works" needed
  if [[ -z "$works" && -z "$running$on_disk" ]]; then
    driver="no driver"
  elif [[ -z "$works" ]]; then
    driver="driver ${running:-none} loaded, ${on_disk:-none} on disk, no answer from nvidia-smi"
  fi
  if [[ -n "$fabric" ]]; then driver+=", fabric manager $fabric (${fabric_state:-unknown})"; else driver+=", no fabric manager"; fi
  needed="any driver"
  if [[ -n "$branch" ]]; then needed="driver $branch or newer"; fi
  say "found: $gpu, $driver, Secure Boot $secure_boot; needed: $needed for vLLM $MAYFLY_ENGINE on $MAYFLY_MACHINE"
}

refuse_secure_boot() { # our modules are built on the machine: nobody has signed them
  if [[ "$secure_boot" == on ]]; then
    fail "driver ${works:-${on_disk:-none}} will not do and Secure Boot forbids another (modules built here are unsigned); nothing was changed; use an image with driver ${branch:-of any version} or turn Secure Boot off"
  fi
}

# plan_reboot WHY  From here on whatever lies in tmpfs is lost: the weights wait when they see it.
plan_reboot() {
  local reboots
  reboots="$(cat "$attempts_file" 2>/dev/null || printf 0)"
  if ((reboots >= max_reboots)); then
    fail "after $reboots reboots still: $1; see $log_dir/$stage.log"
  fi
  printf '%s\n' "$((reboots + 1))" >"$attempts_file"
  printf '%s\n' "$1" >"$run_dir/reboot-planned"
  say "a reboot will follow: $1"
}

unload() {
  local module loaded=()
  for module in "${modules[@]}"; do
    if [[ -d "$root/sys/module/$module" ]]; then loaded+=("$module"); fi
  done
  if ((${#loaded[@]} == 0)); then return 0; fi
  systemctl stop "$fabric_unit" "$persistence_unit" nvidia-dcgm.service 2>/dev/null ||
    log INFO "not every service of the driver was there to be stopped"
  modprobe -r "${loaded[@]}"
}

# A module on disk that is new enough, into the kernel. A reboot where the old one is held.
load() {
  local said
  if [[ "$running" != "$on_disk" ]] && ! unload; then
    plan_reboot "driver $running is in use and $on_disk waits on disk"
    exit 75
  fi
  said="$(modprobe nvidia 2>&1)" || fail "driver $on_disk does not load: ${said##*$'\n'} (Secure Boot $secure_boot)"
  modprobe nvidia_uvm || log WARN "nvidia_uvm does not load"
  look
  if [[ -z "$works" ]]; then
    plan_reboot "driver $on_disk is loaded and nvidia-smi does not answer"
    exit 75
  fi
  changed="${changed:-loaded}, without a reboot"
}

upgrade() {
  local uri="${MAYFLY_DRIVER_URI:?stage 10 needs the gs:// address of the driver packages}"
  local old="${works:-${on_disk:-none}}" held=""
  refuse_secure_boot
  if [[ -z "$MAYFLY_DRIVER_BRANCH" ]]; then
    fail "driver ${works:-none} with fabric manager ${fabric:-none} will not do and the profile names no driver_branch; use an image with a driver"
  fi
  fetch_packages "$uri"
  if ! unload; then
    held=yes
    plan_reboot "driver ${running:-none} is in use"
  fi
  say "installing driver $(packaged "nvidia-utils-$MAYFLY_DRIVER_BRANCH-server") in place of $old, from the bucket"
  install_packages "$packages"/*.deb
  on_disk="$(modinfo -F version nvidia 2>/dev/null)" || on_disk=""
  if ! enough "$on_disk"; then
    fail "the packages are installed, but there is no module of driver $branch for kernel $(uname -r): $(module_words); use an image with driver $branch"
  fi
  if [[ -n "$held" ]]; then exit 75; fi
  changed="installed in place of $old"
  load
}

# The driver will do, its fabric manager will not: that alone where the bucket has the very version,
# else both of the bucket's, unless they are older.
mend_fabric() {
  local uri="${MAYFLY_DRIVER_URI:?stage 10 needs the gs:// address of the driver packages}" offered=""
  if [[ -n "$MAYFLY_DRIVER_BRANCH" ]]; then
    fetch_packages "$uri"
    offered="$(packaged "nvidia-fabricmanager-$MAYFLY_DRIVER_BRANCH")"
  fi
  if [[ "$offered" == "$works" ]]; then
    say "installing fabric manager $offered in place of ${fabric:-none}, from the bucket"
    install_packages "$packages/nvidia-fabricmanager-$MAYFLY_DRIVER_BRANCH"_*.deb
    changed="fabric manager installed in place of ${fabric:-none}"
    look
  elif [[ -n "$offered" ]] && older "$works" "$offered"; then
    upgrade
  fi
  if ! fabric_fits; then
    fail "driver $works and fabric manager ${fabric:-none} differ, CUDA would refuse with error 802, and the bucket has ${offered:-none}; use an image whose fabric manager matches its driver"
  fi
}

start_services() {
  if [[ -n "$changed" || -s "$attempts_file" ]]; then
    systemctl start "$persistence_unit" || log WARN "nvidia-persistenced does not start"
    if command -v nvidia-modprobe >/dev/null; then
      nvidia-modprobe -u -c=0 || log WARN "nvidia-modprobe could not make /dev/nvidia-uvm"
    fi
  fi
  if ((MAYFLY_GPU_COUNT < 8)); then return 0; fi
  if [[ -n "$changed" ]]; then
    systemctl restart "$fabric_unit" || true # asked below
  elif ! systemctl is-active --quiet "$fabric_unit"; then
    systemctl start "$fabric_unit" || true
    if [[ ! -s "$attempts_file" ]]; then changed="fabric manager started"; fi
  fi
  systemctl is-active --quiet "$fabric_unit" ||
    fail "fabric manager $fabric does not start, CUDA would refuse with error 802: $(journalctl -u "$fabric_unit" -n 2 -o cat --no-pager | paste -s -d ' ')"
}

main() {
  branch="$(wanted_branch)"
  look
  preflight
  if ! enough "$works"; then
    if enough "$on_disk"; then load; else upgrade; fi
  fi
  if ! fabric_fits; then mend_fabric; fi
  start_services
  if [[ -z "$changed" && -s "$attempts_file" ]]; then changed="installed, by way of a reboot"; fi
  say "driver $works, fabric manager ${fabric:-none}: ${changed:-left alone}"
}
main "$@"
