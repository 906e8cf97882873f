#!/usr/bin/env bash
# Stage 20: Google's gIB plugin for NCCL out of the way. These machines have no RDMA NIC, and NCCL
# stops with "network gIB not found" wherever it still finds the plugin or its settings.
# Needs: root.
# Leaves: no trace of it in /usr/local, the linker's cache, login shells, NCCL's configuration or
#         systemd's environment. What vLLM's unit then really has, 60-check.sh reads.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A setting of NCCL's, or a path into the plugin. Ours alone uses NCCL here, so any NCCL line goes.
readonly pattern='/gib(/|$|[^A-Za-z0-9_-])|(^|[^A-Za-z0-9_])NCCL_[A-Za-z0-9_]+ *='
# A word of systemd's Environment= and DefaultEnvironment=, quoted or not.
readonly setting="(NCCL_[A-Za-z0-9_]+=|[A-Z_]+=[^\"' ]*/gib)"
readonly word="\"${setting}[^\"]*\"|'${setting}[^']*'|${setting}[^\"' ]*"
# Without such words; where nothing is left, without the line: an empty one means "forget those before".
readonly drop_words="/Environment *=/{\\@$word@{s@@@g;/=[[:space:]]*\$/d}}"

drop() {
  if [[ -e "$1" || -L "$1" ]]; then
    log INFO "removing $1"
    rm -rf "$1"
  fi
}

remove_files() {
  local path
  for path in "$root"/usr/local/gib "$root"/etc/ld.so.conf.d/*gib* "$root"/etc/profile.d/*gib*; do
    drop "$path"
  done
}

# edit FILE SED_PROGRAM  Exit 1 where the file does not speak of it at all.
edit() {
  if [[ ! -f "$1" ]] || ! grep -qE "$pattern" "$1"; then return 1; fi
  log INFO "cleaning $1"
  sed -i -E "$2" "$1"
}

clean_settings() {
  local file
  for file in "$root"/etc/{environment,nccl.conf,ld.so.conf,ld.so.preload} "$root"/root/.nccl.conf \
    "$root"/etc/environment.d/*.conf "$root"/etc/ld.so.conf.d/*.conf; do
    edit "$file" "\\@$pattern@d" || continue
  done
  for file in "$root"/etc/{profile,bash.bashrc} "$root"/root/{.bashrc,.profile} "$root"/etc/profile.d/*; do
    edit "$file" "\\@$pattern@d" || continue
    if ! bash -n "$file" 2>/dev/null; then drop "$file"; fi # it was a branch's only line
  done
}

# What every service is started with: systemd's own defaults, its generators, what was set by hand.
clean_systemd() {
  local base file names name
  for base in "$root"/etc "$root"/run "$root"/usr/lib "$root"/usr/local/lib; do
    for file in "$base"/systemd/system.conf "$base"/systemd/system.conf.d/*.conf "$base"/systemd/system/service.d/*.conf; do
      edit "$file" "$drop_words" || continue
    done
    for file in "$base"/systemd/system-environment-generators/*; do
      if grep -qE "$pattern" "$file"; then drop "$file"; fi
    done
  done
  systemctl daemon-reload
  names="$(systemctl show-environment | sed -nE "\\@$pattern@s/=.*//p")" ||
    fail "could not read systemd's environment; see $log_dir/$stage.log"
  for name in $names; do
    log INFO "cleaning systemd's environment of $name"
    systemctl unset-environment "$name"
  done
}

main() {
  local left status=0
  shopt -s nullglob
  remove_files
  clean_settings
  clean_systemd
  ldconfig
  left="$(python3 -m startup.nccl_env machine)" || status=$?
  case "$status" in
  0) log INFO "no gIB on this machine" ;;
  1) fail "gIB is still there, NCCL would not start: ${left//$'\n'/, }" ;;
  *) fail "could not see whether gIB is gone (exit $status); see $log_dir/$stage.log" ;;
  esac
}
main "$@"
