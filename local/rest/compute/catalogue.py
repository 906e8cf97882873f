"""What Google offers where: regions, zones, machine types, accelerators, disk types.

GPU zones as of mid 2026, from Google's own zone tables; sizes from its machine type pages.
"""

from __future__ import annotations

from dataclasses import dataclass

_ZONE_LETTERS = {
    "asia-east1": "abc",
    "asia-northeast1": "abc",
    "asia-northeast3": "abc",
    "asia-south1": "abc",
    "asia-southeast1": "abc",
    "australia-southeast1": "abc",
    "europe-north1": "abc",
    "europe-west1": "bcd",
    "europe-west2": "abc",
    "europe-west3": "abc",
    "europe-west4": "abc",
    "europe-west9": "abc",
    "northamerica-northeast1": "abc",
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-east4": "abc",
    "us-east5": "abc",
    "us-south1": "abc",
    "us-west1": "abc",
    "us-west2": "abc",
    "us-west3": "abc",
    "us-west4": "abc",
}
REGIONS = tuple(_ZONE_LETTERS)
ZONES = tuple(
    f"{region}-{letter}" for region, letters in _ZONE_LETTERS.items() for letter in letters
)


def region_of(zone: str) -> str:
    """ "us-central1" for "us-central1-a"."""
    return zone.rpartition("-")[0]


@dataclass(frozen=True)
class MachineType:
    """One machine type. zones: None = all. disks: boot disk types that it takes; first = default.

    on_demand: False where only SPOT and FLEX_START can have it. local_ssds: bundled, 375 GB each.
    """

    name: str
    cpus: int
    memory_mb: int
    accelerator: str | None = None
    gpus: int = 0
    zones: tuple[str, ...] | None = None
    on_demand: bool = True
    local_ssds: int = 0

    @property
    def family(self) -> str:
        return self.name.partition("-")[0]

    @property
    def disks(self) -> tuple[str, ...]:
        return _DISKS.get(self.family, _OLD_DISKS)


_OLD_DISKS = ("pd-standard", "pd-balanced", "pd-ssd", "pd-extreme")
_DISKS = {
    "e2": ("pd-standard", "pd-balanced", "pd-ssd"),
    "c3": ("pd-balanced", "pd-ssd", "hyperdisk-balanced", "hyperdisk-throughput"),
    "c4": ("hyperdisk-balanced", "hyperdisk-extreme"),
    "n4": ("hyperdisk-balanced", "hyperdisk-throughput"),
    "a3": ("pd-balanced", "pd-ssd", "hyperdisk-balanced", "hyperdisk-extreme", "hyperdisk-ml"),
    "a4": ("hyperdisk-balanced", "hyperdisk-extreme", "hyperdisk-ml"),
}
DISK_TYPES = (
    "hyperdisk-balanced",
    "hyperdisk-extreme",
    "hyperdisk-ml",
    "hyperdisk-throughput",
    "local-ssd",
    "pd-balanced",
    "pd-extreme",
    "pd-ssd",
    "pd-standard",
)
_A2_ULTRA = (
    "asia-southeast1-c",
    "europe-west4-a",
    "us-central1-a",
    "us-central1-c",
    "us-east4-c",
    "us-east5-a",
    "us-east5-b",
)
_A2 = (
    "asia-northeast1-a",
    "asia-southeast1-c",
    "europe-west4-a",
    "us-central1-a",
    "us-central1-b",
    "us-central1-c",
    "us-central1-f",
    "us-east1-b",
    "us-west1-b",
    "us-west3-b",
    "us-west4-b",
)
_A3_HIGH = (
    "asia-northeast1-b",
    "asia-southeast1-b",
    "asia-southeast1-c",
    "europe-north1-c",
    "europe-west1-b",
    "europe-west1-c",
    "europe-west3-c",
    "europe-west4-b",
    "europe-west4-c",
    "europe-west9-c",
    "us-central1-a",
    "us-central1-b",
    "us-central1-c",
    "us-east4-a",
    "us-east4-b",
    "us-east4-c",
    "us-east5-a",
    "us-west1-a",
    "us-west1-b",
    "us-west4-a",
)
_A3_MEGA = (
    "europe-west4-b",
    "us-central1-a",
    "us-central1-b",
    "us-central1-c",
    "us-east4-a",
    "us-east4-b",
    "us-east4-c",
    "us-east5-a",
    "us-west4-a",
)
_A3_ULTRA = ("europe-west1-b", "us-central1-b", "us-east4-b", "us-east5-a", "us-west1-c")
_A4 = ("us-central1-b", "us-east1-b", "us-west2-c", "europe-west4-b")
_H100, _H200, _B200 = "nvidia-h100-80gb", "nvidia-h200-141gb", "nvidia-b200"
_A100, _A100_80, _L4 = "nvidia-tesla-a100", "nvidia-a100-80gb", "nvidia-l4"


def _cpu_types() -> list[MachineType]:
    shapes = {
        "e2-standard": ((2, 4, 8, 16, 32), 4096),
        "e2-highmem": ((2, 4, 8, 16), 8192),
        "e2-highcpu": ((2, 4, 8, 16, 32), 1024),
        "n1-standard": ((1, 2, 4, 8, 16, 32, 64, 96), 3840),
        "n2-standard": ((2, 4, 8, 16, 32, 48, 64, 80, 96, 128), 4096),
        "n2-highmem": ((2, 4, 8, 16, 32, 48, 64, 80, 96, 128), 8192),
        "n2d-standard": ((2, 4, 8, 16, 32, 48, 64, 80, 96, 128), 4096),
        "n4-standard": ((2, 4, 8, 16, 32, 48, 64, 80), 4096),
        "c3-standard": ((4, 8, 22, 44, 88, 176), 4096),
        "c3-highmem": ((4, 8, 22, 44, 88, 176), 8192),
        "c3-highcpu": ((4, 8, 22, 44, 88, 176), 2048),
        "c4-standard": ((2, 4, 8, 16, 24, 32, 48, 96, 192), 3840),
    }
    shared = [("e2-micro", 1024), ("e2-small", 2048), ("e2-medium", 4096)]
    return [MachineType(name, 2, memory_mb) for name, memory_mb in shared] + [
        MachineType(f"{family}-{cpus}", cpus, cpus * per_cpu_mb)
        for family, (sizes, per_cpu_mb) in shapes.items()
        for cpus in sizes
    ]


def _gpu_types() -> list[MachineType]:
    return [
        MachineType("a2-highgpu-1g", 12, 87_040, _A100, 1, _A2),
        MachineType("a2-highgpu-2g", 24, 174_080, _A100, 2, _A2),
        MachineType("a2-highgpu-4g", 48, 348_160, _A100, 4, _A2),
        MachineType("a2-highgpu-8g", 96, 696_320, _A100, 8, _A2),
        MachineType("a2-ultragpu-1g", 12, 174_080, _A100_80, 1, _A2_ULTRA, local_ssds=1),
        MachineType("a2-ultragpu-2g", 24, 348_160, _A100_80, 2, _A2_ULTRA, local_ssds=2),
        MachineType("a2-ultragpu-4g", 48, 696_320, _A100_80, 4, _A2_ULTRA, local_ssds=4),
        MachineType("a2-ultragpu-8g", 96, 1_392_640, _A100_80, 8, _A2_ULTRA, local_ssds=8),
        MachineType("a3-highgpu-1g", 26, 239_616, _H100, 1, _A3_HIGH, False, 2),
        MachineType("a3-highgpu-2g", 52, 479_232, _H100, 2, _A3_HIGH, False, 4),
        MachineType("a3-highgpu-4g", 104, 958_464, _H100, 4, _A3_HIGH, False, 8),
        MachineType("a3-highgpu-8g", 208, 1_916_928, _H100, 8, _A3_HIGH, True, 16),
        MachineType(
            "a3-megagpu-8g", 208, 1_916_928, "nvidia-h100-mega-80gb", 8, _A3_MEGA, True, 16
        ),
        MachineType("a3-ultragpu-8g", 224, 3_022_848, _H200, 8, _A3_ULTRA, False, 32),
        MachineType("a4-highgpu-8g", 224, 4_063_232, _B200, 8, _A4, False, 32),
        MachineType("g2-standard-4", 4, 16_384, _L4, 1),
        MachineType("g2-standard-8", 8, 32_768, _L4, 1),
        MachineType("g2-standard-12", 12, 49_152, _L4, 1),
        MachineType("g2-standard-24", 24, 98_304, _L4, 2),
        MachineType("g2-standard-48", 48, 196_608, _L4, 4),
    ]


MACHINE_TYPES = {m.name: m for m in [*_cpu_types(), *_gpu_types()]}
ACCELERATORS = {
    _A100: "NVIDIA Tesla A100",
    _A100_80: "NVIDIA A100 80GB",
    _H100: "NVIDIA H100 80GB",
    "nvidia-h100-mega-80gb": "NVIDIA H100 80GB MEGA",
    _H200: "NVIDIA H200 141GB",
    _B200: "NVIDIA B200",
    _L4: "NVIDIA L4",
}


def offered(machine: str, zone: str) -> MachineType | None:
    """The machine type, when this zone has it."""
    kind = MACHINE_TYPES.get(machine)
    if kind is None or (kind.zones is not None and zone not in kind.zones):
        return None
    return kind
