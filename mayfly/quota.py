"""What a launch needs of a project's limits, and what Cloud Quotas says that they are.

Pure. Cloud Quotas, not Compute's regions: those leave out the limits of H100, H200 and B200. It
tells limits, not what other VMs of the project use of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly.errors import RefusedError
from mayfly.machines import MachineType, region_of
from mayfly.problems import NOTHING_DONE

SERVICE = "compute.googleapis.com"
UNLIMITED = -1
BOOT_DISK_GB = 100
"""A session's, held to components/gpu_node.py by a test."""

ALL_GPUS = "GPUS-ALL-REGIONS-per-project"
ALL_CPUS = "CPUS-ALL-REGIONS-per-project"
LOCAL_SSD = "LOCAL-SSD-TOTAL-GB-per-project-region"
SSD = "SSD-TOTAL-GB-per-project-region"
BY_FAMILY = "GPUS-PER-GPU-FAMILY-per-project-region"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What Google's quotas know of a machine family; all by the GPU.

    word: in quota ids, "NVIDIA-{word}-GPUS-...". dimension: its on-demand GPUs are counted under
    `gpu_family` of one quota; "" where they have one of their own. ssd_gb: bundled Local SSD.
    """

    word: str
    dimension: str = ""
    cpus: int
    ssd_gb: int = 0


FAMILIES = {
    "a2-highgpu": Family(word="A100", cpus=12),
    "a2-ultragpu": Family(word="A100-80GB", cpus=12, ssd_gb=375),
    "a3-highgpu": Family(word="H100", dimension="NVIDIA_H100", cpus=26, ssd_gb=750),
    "a3-megagpu": Family(word="H100-MEGA", dimension="NVIDIA_H100_MEGA", cpus=26, ssd_gb=750),
    "a3-ultragpu": Family(word="H200", dimension="NVIDIA_H200", cpus=28, ssd_gb=1500),
    "a4-highgpu": Family(word="B200", dimension="NVIDIA_B200", cpus=28, ssd_gb=1500),
    "g2-standard": Family(word="L4", cpus=12),
}


@dataclass(frozen=True, kw_only=True)
class Need:
    """One limit that a launch runs into. dimensions: {} for a limit over all regions."""

    quota_id: str
    dimensions: Mapping[str, str]
    least: int


@dataclass(frozen=True)
class Finding:
    """A need and its limit: UNLIMITED, or None where Google lists no such limit."""

    need: Need
    limit: int | None

    @property
    def short(self) -> bool:
        """True where the limit is known and too low; what is not listed stops nobody."""
        return self.limit not in (None, UNLIMITED) and (self.limit or 0) < self.need.least


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One entry of a quota: its value where the dimensions fit, and `regions` if it names any."""

    dimensions: Mapping[str, str]
    regions: tuple[str, ...]
    value: int


Limits = Mapping[str, Sequence[Limit]]
"""By quota id."""


def family(machine: MachineType) -> Family:
    """The family of a GPU machine."""
    return FAMILIES[machine.name.rpartition("-")[0]]


def gpu_quota(machine: MachineType, provisioning: str) -> tuple[str, dict[str, str]]:
    """The id of the regional limit on a machine's GPUs, and its dimensions but the region.

    Spot and flex-start have limits of their own: a project with an on-demand one only gets none.
    """
    kind = family(machine)
    if provisioning != "on-demand":
        return f"PREEMPTIBLE-NVIDIA-{kind.word}-GPUS-per-project-region", {}
    if kind.dimension:
        return BY_FAMILY, {"gpu_family": kind.dimension}
    return f"NVIDIA-{kind.word}-GPUS-per-project-region", {}


def needs(machine: MachineType, provisioning: str, region: str) -> list[Need]:
    """Every limit that one VM of this type runs into in a region."""
    kind, place = family(machine), {"region": region}
    quota_id, more = gpu_quota(machine, provisioning)
    found = [
        Need(quota_id=quota_id, dimensions=place | more, least=machine.gpus),
        Need(quota_id=ALL_GPUS, dimensions={}, least=machine.gpus),
        Need(quota_id=ALL_CPUS, dimensions={}, least=kind.cpus * machine.gpus),
        Need(quota_id=SSD, dimensions=place, least=BOOT_DISK_GB),
    ]
    if kind.ssd_gb:
        least = kind.ssd_gb * machine.gpus
        found.append(Need(quota_id=LOCAL_SSD, dimensions=place, least=least))
    return found


def read(infos: Iterable[Mapping[str, Any]]) -> dict[str, list[Limit]]:
    """The limits in Cloud Quotas' quotaInfos; an entry without a value is a limit of 0."""
    return {
        str(info.get("quotaId")): [
            Limit(
                dimensions=entry.get("dimensions") or {},
                regions=tuple(entry.get("applicableLocations") or ()),
                value=int((entry.get("details") or {}).get("value") or 0),
            )
            for entry in info.get("dimensionsInfos") or []
        ]
        for info in infos
    }


def limit(limits: Limits, need: Need) -> int | None:
    """The most particular entry that fits; None where Google lists none."""
    region = need.dimensions.get("region")
    fitting = [
        entry
        for entry in limits.get(need.quota_id, ())
        if all(need.dimensions.get(key) == value for key, value in entry.dimensions.items())
        and (not region or not entry.regions or region in entry.regions)
    ]
    if not fitting:
        return None
    return max(fitting, key=lambda entry: len(entry.dimensions)).value


def check(limits: Limits, machine: MachineType, provisioning: str, region: str) -> list[Finding]:
    """Each need of one VM in a region, with its limit."""
    return [Finding(need, limit(limits, need)) for need in needs(machine, provisioning, region)]


def regions(machine: MachineType) -> tuple[str, ...]:
    """Where a machine is offered, in the order of its zones."""
    return tuple(dict.fromkeys(region_of(zone) for zone in machine.zones))


def shown(value: int | None) -> str:
    """A limit for people."""
    if value is None:
        return "not listed"
    return "unlimited" if value == UNLIMITED else f"{value:,}"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One VM for a profile, and the regions where it may be."""

    profile: str
    machine: MachineType
    provisioning: str
    regions: tuple[str, ...]

    @property
    def what(self) -> str:
        return f"{self.machine.name} as {self.provisioning}"

    def check(self, limits: Limits) -> dict[str, list[Finding]]:
        """By region: each need, with its limit."""
        return {r: check(limits, self.machine, self.provisioning, r) for r in self.regions}

    def request_command(self, region: str) -> str:
        return (
            f"mayfly quota request {self.profile} --machine {self.machine.name} "
            f"--provisioning {self.provisioning} --region {region} --email YOU@EXAMPLE.COM"
        )

    def refusal(self, by_region: Mapping[str, Sequence[Finding]]) -> RefusedError:
        """What is short in the region that comes closest.

        Of two that fall short in as many limits, the one that grants more GPUs is closer.
        """

        def distance(region: str) -> tuple[int, int]:
            found = by_region[region]
            return sum(finding.short for finding in found), -(found[0].limit or 0)

        region = min(by_region, key=distance)
        what = "; ".join(
            f"{f.need.quota_id} is {shown(f.limit)}, {f.need.least:,} are needed"
            for f in by_region[region]
            if f.short
        )
        return RefusedError(
            f"No region's quota is enough for {self.what}. Closest is {region}: {what}.",
            f"Such a VM would be refused at once. {NOTHING_DONE}",
            f"Try: {self.request_command(region)}",
        )
