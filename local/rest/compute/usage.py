"""What VMs and disks use of the project's quotas, and what is one too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from local.rest.compute.catalogue import MACHINE_TYPES, MachineType, region_of
from local.rest.compute.links import last
from local.rest.compute.store import Store
from local.rest.quota_limits import UNLIMITED
from local.rest.quotas import Quotas
from local.rest.world import World

# A VM that waits for capacity holds none; a stopped one has given its GPUs back, not its disks.
HOLDS = ("PROVISIONING", "STAGING", "RUNNING", "STOPPING", "REPAIRING")
SSDS = ("pd-balanced", "pd-ssd")
LOCAL_SSD_GB = 375
# What an accelerator is called in quota ids, and in the dimension of those counted by family.
WORDS = {
    "nvidia-tesla-a100": ("A100", ""),
    "nvidia-a100-80gb": ("A100-80GB", ""),
    "nvidia-l4": ("L4", ""),
    "nvidia-h100-80gb": ("H100", "NVIDIA_H100"),
    "nvidia-h100-mega-80gb": ("H100-MEGA", "NVIDIA_H100_MEGA"),
    "nvidia-h200-141gb": ("H200", "NVIDIA_H200"),
    "nvidia-b200": ("B200", "NVIDIA_B200"),
}


@dataclass(frozen=True)
class Bound:
    """One quota in one place. dimensions: sorted pairs."""

    quota_id: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @property
    def metric(self) -> str:
        """As errors and Compute's own lists call it: "GPUS_ALL_REGIONS"."""
        return self.quota_id.partition("-per-project")[0].replace("-", "_")

    @property
    def family(self) -> str:
        return dict(self.dimensions).get("gpu_family", "")


def regional(name: str, region: str, **more: str) -> Bound:
    dimensions = tuple(sorted({"region": region, **more}.items()))
    return Bound(f"{name}-per-project-region", dimensions)


def of_machine(kind: MachineType, model: str, region: str) -> Counter[Bound]:
    """What one VM of this type holds, its disks left out."""
    held = Counter({Bound("CPUS-ALL-REGIONS-per-project"): kind.cpus})
    if kind.accelerator:
        word, family = WORDS[kind.accelerator]
        if model in ("SPOT", "FLEX_START"):
            own = regional(f"PREEMPTIBLE-NVIDIA-{word}-GPUS", region)
        elif family:
            own = regional("GPUS-PER-GPU-FAMILY", region, gpu_family=family)
        else:
            own = regional(f"NVIDIA-{word}-GPUS", region)
        held.update({own: kind.gpus, Bound("GPUS-ALL-REGIONS-per-project"): kind.gpus})
    if kind.local_ssds:
        held[regional("LOCAL-SSD-TOTAL-GB", region)] = kind.local_ssds * LOCAL_SSD_GB
    return held


def of_disks(disks: Iterable[dict[str, Any]]) -> Counter[Bound]:
    held: Counter[Bound] = Counter()
    for disk in disks:
        if last(disk["type"]) in SSDS:
            region = region_of(last(disk["zone"]))
            held[regional("SSD-TOTAL-GB", region)] += int(disk["sizeGb"])
    return held


def of_instance(instance: dict[str, Any]) -> Counter[Bound]:
    """What an instance holds while it runs."""
    kind = MACHINE_TYPES[last(instance["machineType"])]
    model = instance["scheduling"]["provisioningModel"]
    return of_machine(kind, model, region_of(last(instance["zone"])))


def used(world: World) -> Counter[Bound]:
    """By all that lives; callers hold the world's lock."""
    store = world.of(Store)
    held = of_disks(store.all("disks"))
    for instance in store.all("instances"):
        if instance["status"] in HOLDS:
            held += of_instance(instance)
    return held


def exceeded(world: World, instance: dict[str, Any]) -> tuple[Bound, int] | None:
    """The first limit that is too low for what lives, this instance included, and its value."""
    quotas, total = world.of(Quotas), used(world)
    for bound in _asked(world, instance):
        value = quotas.limit(bound.quota_id, dict(bound.dimensions))
        if value not in (None, UNLIMITED) and total[bound] > (value or 0):
            return bound, value or 0
    return None


def _asked(world: World, instance: dict[str, Any]) -> Iterator[Bound]:
    """What this instance adds to: GPUs of the region first, as Google says it."""
    own = of_instance(instance)
    yield from sorted(own, key=lambda b: ("GPUS" not in b.quota_id, not b.dimensions))
    store = world.of(Store)
    links = {disk.get("source") for disk in instance["disks"]}
    yield from of_disks(d for d in store.all("disks") if d["selfLink"] in links)
