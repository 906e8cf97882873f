#!/usr/bin/env bash
# Stage 05: a place for the weights, in RAM if they fit, else on the disk.
# Needs: MAYFLY_WEIGHTS_URI (gs://), whose manifest.json says how large they are.
# Leaves: /mnt/mayfly with room for them; /run/mayfly/weights-manifest.json.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly spare_percent=20 # of the free RAM: page tables, the engine's own buffers, shared memory
readonly spare_disk_kib=$((2 << 20))

main() {
  local uri="${MAYFLY_WEIGHTS_URI:?stage 05 needs the gs:// address of the weights}"
  local list="$run_dir/weights-manifest.json" bytes kib free_ram_kib free_disk_kib
  bring_manifest "$uri" "$list" || fail "no complete weights at $uri; run: mayfly seed $MAYFLY_PROFILE"
  bytes="$(manifest total "$list")" || fail "the manifest at $uri is not usable; run: mayfly seed $MAYFLY_PROFILE"
  kib=$((bytes / 1024 + 1))
  mkdir -p "$ram_dir"
  if [[ -d "$ram_dir/weights" ]]; then
    log INFO "$ram_dir is already in use by the weights"
    return 0
  fi
  free_ram_kib="$(awk '$1 == "MemAvailable:" {print $2}' "${root}/proc/meminfo")"
  if ((kib <= free_ram_kib * (100 - spare_percent) / 100)); then
    # A little more than the files: directories and metadata count too.
    mount -t tmpfs -o "size=$((kib + kib / 50 + 65536))k,mode=0755" mayfly "$ram_dir"
    log INFO "$((kib >> 20)) GiB of weights go to RAM, $((free_ram_kib >> 20)) GiB were free"
    return 0
  fi
  free_disk_kib="$(df --output=avail -k "$ram_dir" | tail -n 1)"
  if ((kib + spare_disk_kib <= free_disk_kib)); then
    log WARN "$((kib >> 20)) GiB of weights go to the disk: RAM has $((free_ram_kib >> 20)) GiB free; loading will be slower"
    return 0
  fi
  fail "no room for $((kib >> 20)) GiB of weights: $((free_ram_kib >> 20)) GiB free in RAM, $((free_disk_kib >> 20)) GiB on disk; choose a larger machine in the profile"
}
main "$@"
