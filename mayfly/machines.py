"""What Google sells that we use: machine types and the zones that offer them.

Read on 2026-11-23 in Google's pages on accelerator-optimized machines and, for zones, in the
SkyPilot catalogue (gcp/vms.csv, June 2026). A zone that is missing here is one line to add.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One machine type; `gpus` is 0 for the CPU types that seed.

    ram_gb: as Google lists it. boot_disk: a disk type that the machine accepts.
    """

    name: str
    gpu: str
    gpus: int
    ram_gb: int
    boot_disk: str
    zones: tuple[str, ...]


GENERAL_ZONES = (
    *(f"us-central1-{z}" for z in "abcf"),
    *(f"us-east1-{z}" for z in "bcd"),
    *(f"us-east4-{z}" for z in "abc"),
    *(f"us-east5-{z}" for z in "abc"),
    *(f"us-west1-{z}" for z in "abc"),
    *(f"us-west4-{z}" for z in "abc"),
    *(f"europe-west1-{z}" for z in "bcd"),
    *(f"europe-west3-{z}" for z in "abc"),
    *(f"europe-west4-{z}" for z in "abc"),
    *(f"europe-west9-{z}" for z in "abc"),
    *(f"europe-north1-{z}" for z in "abc"),
)

_TYPES = (
    MachineType(
        name="a3-highgpu-8g",
        gpu="H100 80GB",
        gpus=8,
        ram_gb=1872,
        boot_disk="pd-balanced",
        zones=(
            *("us-central1-a", "us-central1-b", "us-central1-c"),
            *("us-east4-a", "us-east4-b", "us-east4-c", "us-east5-a"),
            *("us-west1-a", "us-west1-b", "us-west4-a"),
            *("europe-north1-c", "europe-west1-b", "europe-west1-c", "europe-west3-c"),
            *("europe-west4-b", "europe-west4-c", "europe-west9-c"),
        ),
    ),
    MachineType(
        name="a2-ultragpu-8g",
        gpu="A100 80GB",
        gpus=8,
        ram_gb=1360,
        boot_disk="pd-balanced",
        zones=(
            *("us-central1-a", "us-central1-c", "us-east4-c", "us-east5-a", "us-east5-b"),
            "europe-west4-a",
        ),
    ),
    MachineType(
        name="n2-standard-8",
        gpu="",
        gpus=0,
        ram_gb=32,
        boot_disk="pd-balanced",
        zones=GENERAL_ZONES,
    ),
    MachineType(
        name="n2-standard-16",
        gpu="",
        gpus=0,
        ram_gb=64,
        boot_disk="pd-balanced",
        zones=GENERAL_ZONES,
    ),
)

MACHINES = {machine.name: machine for machine in _TYPES}
SEEDING_MACHINES = tuple(machine.name for machine in _TYPES if not machine.gpus)
ALL_ZONES = tuple(sorted({zone for machine in _TYPES for zone in machine.zones}))
REGIONS = tuple(sorted({zone.rpartition("-")[0] for zone in GENERAL_ZONES}))


def region_of(zone: str) -> str:
    """ "us-central1-a" -> "us-central1"."""
    return zone.rpartition("-")[0]
