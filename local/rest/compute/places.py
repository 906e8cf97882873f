"""Read-only catalogues: zones, regions, machine types, disk types, accelerators, the project."""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.rest.compute.catalogue import (
    ACCELERATORS,
    DISK_TYPES,
    MACHINE_TYPES,
    REGIONS,
    ZONES,
    MachineType,
    offered,
    region_of,
)
from local.rest.compute.links import fingerprint, link
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.operations import at_once
from local.rest.compute.service import method
from local.rest.compute.store import Store
from local.rest.compute.usage import Bound, regional, used
from local.rest.errors import ApiError
from local.rest.quotas import Quotas
from local.rest.service import Call
from local.rest.world import World

BORN = "1969-12-31T16:00:00.000-08:00"
# Like Google, nothing about H100, H100 MEGA or B200: those limits are only in Cloud Quotas. What
# is there too has its value from there; the rest is nothing that anything is held to.
ONLY_HERE = {
    "CPUS": 2400,
    "PREEMPTIBLE_CPUS": 2400,
    "DISKS_TOTAL_GB": 204800,
    "PREEMPTIBLE_LOCAL_SSD_GB": 48000,
    "IN_USE_ADDRESSES": 69,
    "STATIC_ADDRESSES": 21,
    "INSTANCES": 2000,
}
SHARED_METRICS = (
    "SSD_TOTAL_GB",
    "LOCAL_SSD_TOTAL_GB",
    "NVIDIA_A100_GPUS",
    "NVIDIA_A100_80GB_GPUS",
    "PREEMPTIBLE_NVIDIA_A100_GPUS",
    "PREEMPTIBLE_NVIDIA_A100_80GB_GPUS",
    "NVIDIA_L4_GPUS",
    "PREEMPTIBLE_NVIDIA_L4_GPUS",
)


def _id(*parts: str) -> str:
    """A numeric id that is the same in every local cloud."""
    return str(10**4 + int.from_bytes("/".join(parts).encode()[-6:], "big") % 10**15)


def _zone(project: str, zone: str) -> dict[str, Any]:
    return {
        "kind": "compute#zone",
        "id": _id("zone", zone),
        "creationTimestamp": BORN,
        "name": zone,
        "description": zone,
        "status": "UP",
        "region": link(f"projects/{project}/regions/{region_of(zone)}"),
        "selfLink": link(f"projects/{project}/zones/{zone}"),
        "availableCpuPlatforms": ["Intel Sapphire Rapids", "Intel Cascade Lake"],
    }


def _quota(world: World, bound: Bound, held: Counter[Bound]) -> dict[str, Any]:
    limit = world.of(Quotas).limit(bound.quota_id, dict(bound.dimensions)) or 0
    return {"metric": bound.metric, "limit": float(limit), "usage": float(held[bound])}


def _region(world: World, region: str, held: Counter[Bound]) -> dict[str, Any]:
    project = world.project
    own = [{"metric": m, "limit": float(v), "usage": 0.0} for m, v in ONLY_HERE.items()]
    shared = [regional(metric.replace("_", "-"), region) for metric in SHARED_METRICS]
    return {
        "kind": "compute#region",
        "id": _id("region", region),
        "creationTimestamp": BORN,
        "name": region,
        "description": region,
        "status": "UP",
        "zones": [link(f"projects/{project}/zones/{z}") for z in ZONES if region_of(z) == region],
        "quotas": [*own, *(_quota(world, bound, held) for bound in shared)],
        "selfLink": link(f"projects/{project}/regions/{region}"),
        "supportsPzs": False,
    }


def _machine(project: str, zone: str, kind: MachineType) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "kind": "compute#machineType",
        "id": _id("machine", kind.name),
        "creationTimestamp": BORN,
        "name": kind.name,
        "description": f"{kind.cpus} vCPUs, {kind.memory_mb // 1024} GB RAM",
        "guestCpus": kind.cpus,
        "memoryMb": kind.memory_mb,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "isSharedCpu": kind.name in ("e2-micro", "e2-small", "e2-medium"),
        "architecture": "X86_64",
        "selfLink": link(f"projects/{project}/zones/{zone}/machineTypes/{kind.name}"),
    }
    if kind.accelerator:
        answer["accelerators"] = [
            {"guestAcceleratorType": kind.accelerator, "guestAcceleratorCount": kind.gpus}
        ]
    return answer


def _catalogued(project: str, zone: str, collection: str, name: str) -> dict[str, Any]:
    singular = collection.removesuffix("s")
    return {
        "kind": f"compute#{singular}",
        "id": _id(singular, name),
        "creationTimestamp": BORN,
        "name": name,
        "description": ACCELERATORS.get(name, name),
        "zone": link(f"projects/{project}/zones/{zone}"),
        "selfLink": link(f"projects/{project}/zones/{zone}/{collection}/{name}"),
    }


def _missing(call: Call, path: str) -> ApiError:
    return ApiError(404, f"The resource 'projects/{call.world.project}/{path}' was not found")


@method("zones.get")
def get_zone(call: Call) -> dict[str, Any]:
    """A zone."""
    return _zone(call.world.project, call["zone"])


@method("zones.list")
def list_zones(call: Call) -> dict[str, Any]:
    """All zones."""
    project = call.world.project
    found = [_zone(project, z) for z in ZONES]
    return listed(call, "compute#zoneList", f"projects/{project}/zones", found)


@method("regions.get")
def get_region(call: Call) -> dict[str, Any]:
    """A region with its quotas."""
    return _region(call.world, call["region"], used(call.world))


@method("regions.list")
def list_regions(call: Call) -> dict[str, Any]:
    """All regions with their quotas."""
    held = used(call.world)
    found = [_region(call.world, r, held) for r in REGIONS]
    path = f"projects/{call.world.project}/regions"
    return listed(call, "compute#regionList", path, found)


@method("machineTypes.get")
def get_machine_type(call: Call) -> dict[str, Any]:
    """A machine type, where the zone has it."""
    kind = offered(call["machineType"], call["zone"])
    if kind is None:
        raise _missing(call, f"zones/{call['zone']}/machineTypes/{call['machineType']}")
    return _machine(call.world.project, call["zone"], kind)


def _machines_in(project: str, zone: str) -> list[dict[str, Any]]:
    return [
        _machine(project, zone, kind)
        for name in sorted(MACHINE_TYPES)
        if (kind := offered(name, zone))
    ]


@method("machineTypes.list")
def list_machine_types(call: Call) -> dict[str, Any]:
    """A zone's machine types."""
    path = f"projects/{call.world.project}/zones/{call['zone']}/machineTypes"
    found = _machines_in(call.world.project, call["zone"])
    return listed(call, "compute#machineTypeList", path, found)


@method("machineTypes.aggregatedList")
def aggregated_machine_types(call: Call) -> dict[str, Any]:
    """All machine types by zone."""
    found = [m for zone in ZONES for m in _machines_in(call.world.project, zone)]
    return aggregated(call, "compute#machineTypeAggregatedList", "machineTypes", found)


@method("diskTypes.get")
def get_disk_type(call: Call) -> dict[str, Any]:
    """A disk type."""
    if call["diskType"] not in DISK_TYPES:
        raise _missing(call, f"zones/{call['zone']}/diskTypes/{call['diskType']}")
    return _catalogued(call.world.project, call["zone"], "diskTypes", call["diskType"])


@method("acceleratorTypes.get")
def get_accelerator(call: Call) -> dict[str, Any]:
    """A GPU model, where a machine type of the zone has it."""
    name = call["acceleratorType"]
    here = {k.accelerator for k in MACHINE_TYPES.values() if offered(k.name, call["zone"])}
    if name not in here:
        raise _missing(call, f"zones/{call['zone']}/acceleratorTypes/{name}")
    return _catalogued(call.world.project, call["zone"], "acceleratorTypes", name)


@method("projects.get")
def get_project(call: Call) -> dict[str, Any]:
    """The project as Compute sees it."""
    world = call.world
    return {
        "kind": "compute#project",
        "id": world.project_number,
        "creationTimestamp": "2026-01-05T09:00:00.000-08:00",
        "name": world.project,
        "selfLink": link(f"projects/{world.project}"),
        "commonInstanceMetadata": world.of(Store).common_metadata,
        "defaultServiceAccount": f"{world.project_number}-compute@developer.gserviceaccount.com",
        "defaultNetworkTier": "PREMIUM",
        "quotas": [
            {"metric": "NETWORKS", "limit": 15.0, "usage": 1.0},
            _quota(world, Bound("GPUS-ALL-REGIONS-per-project"), used(world)),
        ],
    }


@method("projects.setCommonInstanceMetadata")
def set_common_metadata(call: Call) -> dict[str, Any]:
    """Replace the project-wide metadata, if the caller has seen the current one."""
    store = call.world.of(Store)
    if call.body.get("fingerprint") != store.common_metadata.get("fingerprint"):
        raise ApiError(412, "Supplied fingerprint does not match current metadata fingerprint.")
    target = {"selfLink": link(f"projects/{call.world.project}"), "id": call.world.project_number}

    def work() -> None:
        items = call.body.get("items", [])
        store.common_metadata = {
            "kind": "compute#metadata",
            "fingerprint": fingerprint(items),
            "items": items,
        }

    return at_once(call, "setCommonInstanceMetadata", target, work)
