"""Look at every VM of ours: what Compute says, what it says of itself, what holds it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mayfly import idle, names
from mayfly.cloud import Cloud, CloudError
from mayfly.errors import FailedError
from reaper import vm
from reaper.parallel import each


@dataclass(frozen=True)
class Listed:
    """All VMs that Compute listed, and a line for each thing that could not be read."""

    vms: list[vm.Vm] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def listed(cloud: Cloud, state_bucket: str) -> Listed:
    """Every VM of ours with what Compute and the leases say of it.

    CloudError only when the VMs cannot be listed.
    """
    found, errors = [], []
    for instance in cloud.compute.instances(names.OUR_VMS):
        if not vm.is_ours(instance):
            continue
        try:
            found.append(vm.parse(instance))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            errors.append(f"VM {instance.get('name')!r} is not understood: {error}")
    try:
        leases = _leases(cloud, state_bucket, {one.session for one in found}, errors)
    except FailedError as error:
        errors.append(f"leases: {error}")
        found = [replace(one, lease_known=False) for one in found]
    else:
        found = [replace(one, lease_until=_until(leases.get(one.session), one)) for one in found]
    return Listed(found, errors)


def closer(cloud: Cloud, one: vm.Vm) -> vm.Vm:
    """The VM with its own claims, or with why they are not known."""
    try:
        claims = cloud.compute.guest_attributes(one.zone, one.name, names.GUEST_PATH)
    except CloudError as error:
        return replace(one, attributes_error=error.message)
    return replace(one, attributes=claims)


def _leases(
    cloud: Cloud, bucket: str, sessions: Iterable[str], errors: list[str]
) -> dict[str, idle.Lease]:
    """By session. One that is garbled counts for nothing, and is an error line."""
    wanted = {names.lease(session): session for session in sessions}
    if not wanted:
        return {}
    there = [str(item["name"]) for item in cloud.storage.list(bucket, names.LEASE_PREFIX)]
    mine = [name for name in there if name in wanted]
    leases: dict[str, idle.Lease] = {}
    for name, blob in each(mine, lambda name: cloud.storage.get(bucket, name)):
        if isinstance(blob, FailedError):
            raise blob
        lease = idle.parse_lease(blob.data) if blob else None
        if lease is not None:
            leases[wanted[name]] = lease
        elif blob is not None:
            errors.append(f"{name} is not understood; it does not count")
    return leases


def _until(lease: idle.Lease | None, one: vm.Vm) -> float | None:
    return lease.until if lease is not None and lease.holds(one.id) else None
