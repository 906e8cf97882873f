"""What Google sells that we use: machine types, their GPUs, and the zones that offer them.

Read on 2026-11-23 in Google's pages on accelerator-optimized machines and, for zones, in the
SkyPilot catalogue (gcp/vms.csv, June 2026). A zone that is missing here is one line to add.
"""

from dataclasses import dataclass

SPOT_ONLY = ("spot", "flex-start")
ANY = (*SPOT_ONLY, "on-demand")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU. gib: what its driver reports, GiB. capability: CUDA's, 9.0 as 90."""

    gib: float
    capability: int


# What torch says of a whole card ("total capacity of ... GiB"); the lowest figure seen, since a
# plan that is too hopeful is found out on a rented machine.
GPUS = {
    "H100 80GB": Gpu(gib=79.18, capability=90),
    "H200 141GB": Gpu(gib=139.80, capability=90),
    "B200": Gpu(gib=178.35, capability=100),
    "A100 80GB": Gpu(gib=79.15, capability=80),
    "A100 40GB": Gpu(gib=39.38, capability=80),
    "L4": Gpu(gib=22.03, capability=89),
}


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """One machine type; `gpus` is 0 for the CPU types that seed.

    gpu: a key of GPUS, or "". ram_gb: as Google lists it. boot_disk: a disk type that the machine
    accepts. provisioning: the models it is sold under.
    """

    name: str
    gpu: str
    gpus: int
    ram_gb: int
    boot_disk: str
    zones: tuple[str, ...]
    provisioning: tuple[str, ...] = ANY


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

A3_HIGH_ZONES = (
    *("us-central1-a", "us-central1-b", "us-central1-c"),
    *("us-east4-a", "us-east4-b", "us-east4-c", "us-east5-a"),
    *("us-west1-a", "us-west1-b", "us-west4-a"),
    *("europe-north1-c", "europe-west1-b", "europe-west1-c", "europe-west3-c"),
    *("europe-west4-b", "europe-west4-c", "europe-west9-c"),
)
A3_MEGA_ZONES = (
    *("us-central1-a", "us-central1-b", "us-central1-c"),
    *("us-east4-a", "us-east4-b", "us-east4-c", "us-east5-a", "us-west4-a"),
    *("europe-west4-b", "europe-west4-c"),
)
A3_ULTRA_ZONES = ("us-central1-b", "us-east4-b", "us-east5-a", "us-west1-c", "europe-west1-b")
A2_ULTRA_ZONES = (
    *("us-central1-a", "us-central1-c", "us-east4-c", "us-east5-a", "us-east5-b"),
    "europe-west4-a",
)
A2_HIGH_ZONES = (
    *("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"),
    *("us-east1-b", "us-west1-b", "us-west4-b", "europe-west4-a", "europe-west4-b"),
)
G2_ZONES = (
    *("us-central1-a", "us-central1-b", "us-central1-c", "us-east1-b", "us-east1-c", "us-east1-d"),
    *("us-east4-a", "us-east4-c", "us-west1-a", "us-west1-b", "us-west1-c", "us-west4-a"),
    *("europe-west1-b", "europe-west1-c", "europe-west4-a", "europe-west4-b", "europe-west4-c"),
)


def _family(
    pattern: str, gpu: str, ram_gb: dict[int, int], zones: tuple[str, ...]
) -> tuple[MachineType, ...]:
    """Types that differ in size only. ram_gb: by the number of GPUs."""
    return tuple(
        MachineType(
            name=pattern.format(gpus),
            gpu=gpu,
            gpus=gpus,
            ram_gb=ram,
            boot_disk="pd-balanced",
            zones=zones,
            # Less than a whole H100 host is sold as Spot and Flex-start only.
            provisioning=SPOT_ONLY if gpu == "H100 80GB" and gpus < 8 else ANY,
        )
        for gpus, ram in ram_gb.items()
    )


_TYPES = (
    *_family("a3-highgpu-{}g", "H100 80GB", {8: 1872, 4: 936, 2: 468, 1: 234}, A3_HIGH_ZONES),
    *_family("a3-megagpu-{}g", "H100 80GB", {8: 1872}, A3_MEGA_ZONES),
    MachineType(
        name="a3-ultragpu-8g",
        gpu="H200 141GB",
        gpus=8,
        ram_gb=2952,
        boot_disk="hyperdisk-balanced",
        zones=A3_ULTRA_ZONES,
        provisioning=SPOT_ONLY,
    ),
    MachineType(
        name="a4-highgpu-8g",
        gpu="B200",
        gpus=8,
        ram_gb=3968,
        boot_disk="hyperdisk-balanced",
        zones=("us-central1-b",),
        provisioning=SPOT_ONLY,
    ),
    *_family("a2-ultragpu-{}g", "A100 80GB", {8: 1360, 4: 680, 2: 340, 1: 170}, A2_ULTRA_ZONES),
    *_family("a2-highgpu-{}g", "A100 40GB", {8: 680, 4: 340, 2: 170, 1: 85}, A2_HIGH_ZONES),
    *(
        MachineType(
            name=f"g2-standard-{cpus}",
            gpu="L4",
            gpus=gpus,
            ram_gb=cpus * 4,
            boot_disk="pd-balanced",
            zones=G2_ZONES,
        )
        for cpus, gpus in ((48, 4), (24, 2), (12, 1), (8, 1))
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
GPU_MACHINES = tuple(machine.name for machine in _TYPES if machine.gpus)
SEEDING_MACHINES = tuple(machine.name for machine in _TYPES if not machine.gpus)
ALL_ZONES = tuple(sorted({zone for machine in _TYPES for zone in machine.zones}))
REGIONS = tuple(sorted({zone.rpartition("-")[0] for zone in GENERAL_ZONES}))


def torch_gib(nvidia_smi_gib: float) -> float:
    """What torch will say of a GPU, and the engine count by; an unknown GPU's own word."""
    near = min((gpu.gib for gpu in GPUS.values()), key=lambda gib: abs(gib - nvidia_smi_gib))
    return near if abs(near - nvidia_smi_gib) < 0.02 * nvidia_smi_gib else nvidia_smi_gib


def alone(machine: MachineType) -> tuple[str, ...]:
    """The machines with one GPU of the same kind; () where none is sold."""
    return tuple(one.name for one in _TYPES if one.gpu == machine.gpu and one.gpus == 1)


def region_of(zone: str) -> str:
    """ "us-central1-a" -> "us-central1"."""
    return zone.rpartition("-")[0]
