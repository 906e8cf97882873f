"""What costs money and belongs to nothing any more: VMs, disks, addresses with our label."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import idle, names, vms
from mayfly.cloud import Cloud
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kind
from mayfly.doctor.site import Foundation, Site, state_of
from mayfly.setup.look import or_off

YOUNG_S = 900.0
"""What is younger may belong to a launch that has not written its state yet."""


@dataclass(frozen=True)
class Machines:
    """VMs of this state bucket; owned: the ids that its stacks hold; now: Unix seconds."""

    there: tuple[vms.Vm, ...]
    owned: frozenset[str]
    now: float


def look_machines(site: Site, cloud: Cloud, base: Foundation) -> Machines:
    ours = [v for v in vms.all_of_ours(cloud) if v.settings.get("state_bucket") == site.bucket]
    owned: set[str] = set()
    for session in {vm.session for vm in ours}:
        for resource in state_of(cloud, site.bucket, session):
            if resource.get("type") == names.INSTANCE_TYPE:
                owned.add(str((resource.get("outputs") or {}).get("instanceId")))
    return Machines(tuple(ours), frozenset(owned), time.time())


def judge_machines(site: Site, seen: Machines) -> Iterator[Finding]:
    for vm in seen.there:
        words = {"name": vm.name, "zone": vm.zone, "project": site.project, "session": vm.session}
        stopped_s = seen.now - (vm.stopped_at or vm.created_at)
        if vm.id not in seen.owned and seen.now - vm.created_at > YOUNG_S:
            what = f"{vm.name} ({vm.id}) in {vm.zone}, {vm.status}, is in no stack of this bucket."
            yield kind("vm-unowned").finding(what, f"{vm.zone}/{vm.id}", **words)
        elif vm.status in idle.GONE and stopped_s > YOUNG_S:
            what = f"{vm.name} in {vm.zone} is {vm.status} for {stopped_s / 60:.0f} min."
            yield kind("vm-stopped").finding(what, f"{vm.zone}/{vm.id}", **words)


@dataclass(frozen=True)
class Things:
    """Disks or addresses with our label, as Compute says; now: Unix seconds."""

    there: tuple[Mapping[str, Any], ...]
    now: float


def look_disks(site: Site, cloud: Cloud, base: Foundation) -> Things:
    return Things(or_off(lambda: tuple(cloud.compute.disks(names.OUR_VMS)), ()), time.time())


def judge_disks(site: Site, seen: Things) -> Iterator[Finding]:
    for disk in seen.there:
        if is_left(disk, seen.now):
            name, zone = str(disk["name"]), last(disk["zone"])
            what = f"Disk {name} in {zone}, {disk.get('sizeGb')} GB, is attached to nothing."
            words = {"name": name, "zone": zone, "project": site.project}
            yield kind("disk-left").finding(what, f"zones/{zone}/disks/{name}", **words)


def look_addresses(site: Site, cloud: Cloud, base: Foundation) -> Things:
    return Things(or_off(lambda: tuple(cloud.compute.addresses(names.OUR_VMS)), ()), time.time())


def judge_addresses(site: Site, seen: Things) -> Iterator[Finding]:
    for address in seen.there:
        if is_left(address, seen.now) and address.get("region"):
            name, region = str(address["name"]), last(address["region"])
            what = f"Address {name} in {region}, {address.get('address')}, is used by nothing."
            words = {"name": name, "region": region, "project": site.project}
            subject = f"regions/{region}/addresses/{name}"
            yield kind("address-left").finding(what, subject, **words)


def is_left(thing: Mapping[str, Any], now: float) -> bool:
    """Ours, nobody's, and not of a launch that goes on. Without a label of ours: never."""
    ours = names.LABEL_LAYER in (thing.get("labels") or {})
    used = thing.get("users") or thing.get("status") == "IN_USE"
    stamps = [
        str(thing[key]) for key in ("creationTimestamp", "lastDetachTimestamp") if key in thing
    ]
    quiet = bool(stamps) and now - max(map(vms.seconds, stamps)) > YOUNG_S
    return ours and not used and quiet


def last(link: object) -> str:
    return str(link).rsplit("/", 1)[-1]
