#!/usr/bin/env bash
# Stage 20: Google's gIB plugin for NCCL out of the way. These machines have no RDMA NIC, and NCCL
# stops with "network gIB not found" wherever it still finds the plugin or its settings.
# Needs: root.
# Leaves: no trace of it in /usr/local, the linker's cache, the profile or NCCL's configuration.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly pattern='/gib(/|$|[^a-z])|NCCL_NET *= *"?gIB|NCCL_TUNER_CONFIG_PATH'

remove_files() {
  local path
  for path in "$root"/usr/local/gib "$root"/etc/ld.so.conf.d/*gib* "$root"/etc/profile.d/*gib*; do
    if [[ -e "$path" || -L "$path" ]]; then
      log INFO "removing $path"
      rm -rf "$path"
    fi
  done
}

# The files that NCCL or a login shell reads. Ours alone uses NCCL here, so any NCCL line goes.
clean_settings() {
  local file
  for file in "$root"/etc/environment "$root"/etc/nccl.conf "$root"/etc/profile.d/*.sh "$root"/etc/ld.so.conf.d/*.conf; do
    if [[ -f "$file" ]] && grep -qE "$pattern|^(export +)?NCCL_" "$file"; then
      log INFO "cleaning $file"
      sed -i -E "\\@$pattern|^(export +)?NCCL_@d" "$file"
    fi
  done
}

leftovers() {
  local path
  for path in "$root"/usr/local/gib "$root"/etc/ld.so.conf.d/*gib* "$root"/etc/profile.d/*gib*; do
    if [[ -e "$path" || -L "$path" ]]; then printf '%s\n' "$path"; fi
  done
  grep -lE "$pattern" "$root"/etc/environment "$root"/etc/nccl.conf \
    "$root"/etc/profile.d/*.sh "$root"/etc/ld.so.conf.d/*.conf 2>/dev/null || true
  ldconfig -p | grep -E '/gib/' || true
}

main() {
  local left
  shopt -s nullglob
  remove_files
  clean_settings
  ldconfig
  left="$(leftovers)"
  if [[ -n "$left" ]]; then
    fail "gIB is still there, NCCL would not start: ${left//$'\n'/, }"
  fi
  log INFO "no gIB on this machine"
}
main "$@"
