"""What the reaper keeps in the state bucket: its last look at each VM, and the ledger."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from mayfly import names
from mayfly.cloud import Cloud
from mayfly.errors import FailedError
from mayfly.idle import PHASES, Verdict
from reaper import claims
from reaper.life import Ending, Known, Operation, is_over, parse_operation, tell
from reaper.parallel import each
from reaper.vm import Vm

FORMAT = 1
OPERATIONS = f"targetLink eq .*/instances/{names.VM_PREFIX}.*"


@dataclass(frozen=True)
class Look:
    """One VM, the verdict on it, and the delete that was sent for it (None: none was).

    error: why the delete could not be sent, or "".
    """

    vm: Vm
    verdict: Verdict
    operation: str | None
    error: str = ""


def save(cloud: Cloud, bucket: str, looks: Iterable[Look], now: float) -> list[str]:
    """Write down this tick's look at every VM; returns a line for each that could not be."""

    def write(look: Look) -> None:
        # A VM that is on its way out says nothing new: the decision that sent it there stays.
        before = _load(cloud, bucket, look.vm.id) if look.verdict.end else None
        known = _known(look, before, now)
        body = json.dumps({"format": FORMAT, **asdict(known)}).encode()
        cloud.storage.put(bucket, names.observation(look.vm.id), body)

    done = each(looks, write)
    return [f"observation: {error}" for _, error in done if isinstance(error, FailedError)]


def close(
    cloud: Cloud, bucket: str, alive: set[str], states: Mapping[str, Known]
) -> tuple[list[str], list[str]]:
    """Write the record of every life that is over and has none; returns ids and error lines.

    alive: ids that Compute listed. states: what the stacks' states know, by id, for a VM that
    lived and died between two ticks. CloudError when operations or books cannot be listed.
    """
    by_vm: dict[str, list[Operation]] = defaultdict(list)
    for raw in cloud.compute.operations(OPERATIONS):
        operation = parse_operation(raw)
        if operation is not None:
            by_vm[operation.vm_id].append(operation)
    written = _ids(cloud, bucket, names.LEDGER_PREFIX)
    seen = _ids(cloud, bucket, names.OBSERVATION_PREFIX)
    over = sorted((seen | by_vm.keys()) - alive - (written - seen))

    def write(vm_id: str) -> bool:
        if vm_id not in written and not _record(cloud, bucket, vm_id, by_vm[vm_id], states):
            return False
        cloud.storage.delete(bucket, names.observation(vm_id))
        return vm_id not in written

    done = each([vm_id for vm_id in over if is_over(by_vm[vm_id])], write)
    errors = [f"ledger of VM {vm_id}: {e}" for vm_id, e in done if isinstance(e, FailedError)]
    return [vm_id for vm_id, new in done if new is True], errors


def _record(
    cloud: Cloud,
    bucket: str,
    vm_id: str,
    operations: list[Operation],
    states: Mapping[str, Known],
) -> bool:
    """Write one record, once. False: the VM is there after all (its zone was not listed)."""
    known = _load(cloud, bucket, vm_id) or states.get(vm_id)
    if known is None and not operations:
        raise FailedError("its last look is not understood, and no operation tells of it")
    zone = known.zone if known else operations[-1].zone
    if cloud.compute.instance(zone, vm_id) is not None:
        return False
    record = tell(vm_id, operations, known).to_json()
    cloud.storage.put(bucket, names.ledger(vm_id), record, if_generation_match=0)
    return True


def _ids(cloud: Cloud, bucket: str, prefix: str) -> set[str]:
    found = (str(item["name"]) for item in cloud.storage.list(bucket, prefix))
    return {name.removeprefix(prefix).removesuffix(".json") for name in found}


def _known(look: Look, before: Known | None, now: float) -> Known:
    vm, said = look.vm, look.vm.attributes or {}
    phase = said.get("phase")
    known = Known(
        name=vm.name,
        zone=vm.zone,
        settings=vm.settings,
        created_at=vm.created_at,
        seen_at=now,
        max_life_s=vm.limits.max_life_s,
        phase=phase if phase in PHASES else None,
        message=claims.line(said.get("message")),
        timeline=claims.timeline(said.get("timeline")),
        ending=_ending(look, before.ending if before else None),
    )
    if said or before is None:
        return known
    # A halted VM may answer no more; what it said last still holds.
    return replace(known, phase=before.phase, message=before.message, timeline=before.timeline)


def _ending(look: Look, before: Ending | None) -> Ending | None:
    if look.operation is None:
        return before
    if before is not None:
        return replace(before, operations=(*before.operations, look.operation))
    verdict = look.verdict
    return Ending(kind=verdict.kind, reason=verdict.reason, operations=(look.operation,))


def _load(cloud: Cloud, bucket: str, vm_id: str) -> Known | None:
    """The last look at a VM; None when there is none that can be read (ours, but in a bucket)."""
    blob = cloud.storage.get(bucket, names.observation(vm_id))
    raw = dict(claims.mapping(blob.data)) if blob else {}
    if raw.pop("format", None) != FORMAT or raw.keys() != Known.__dataclass_fields__.keys():
        return None
    ending = raw["ending"]
    raw["ending"] = (
        Ending(**{**ending, "operations": tuple(ending["operations"])}) if ending else None
    )
    raw["timeline"] = tuple(raw["timeline"])
    return Known(**raw)
