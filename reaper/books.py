"""What the reaper keeps in the state bucket: its last look at each VM, and the ledger."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from mayfly import names
from mayfly.claims import line, mapping
from mayfly.cloud import Cloud
from mayfly.errors import FailedError
from mayfly.idle import PHASES, Verdict
from reaper.claims import timeline
from reaper.clock import Clock
from reaper.history import recall
from reaper.life import Ending, Known, Operation, is_fresh, is_over, is_told, parse_operation, tell
from reaper.parallel import each
from reaper.vm import Vm

FORMAT = 1
OPERATIONS = f"targetLink eq .*/instances/{names.VM_PREFIX}.*"


@dataclass(frozen=True)
class Books:
    """Where they are kept, and the run that keeps them.

    seen: what this run saw itself, by id; the bucket may have refused to keep it.
    gone: ids of VMs that this run has asked for and that are no more.
    """

    cloud: Cloud
    bucket: str
    clock: Clock
    seen: dict[str, Known] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Look:
    """One VM, the verdict on it, and the delete that was sent for it (None: none was).

    error: why the delete could not be sent, or "".
    """

    vm: Vm
    verdict: Verdict
    operation: str | None
    error: str = ""


def save(books: Books, looks: Iterable[Look]) -> list[str]:
    """Write down this tick's look at every VM; returns a line for each that could not be."""

    def write(look: Look) -> None:
        # A VM that is on its way out says nothing new: the decision that sent it there stays.
        before = _load(books, look.vm.id) if look.verdict.end else None
        known = _known(look, before, books.clock.now())
        books.seen[look.vm.id] = known
        body = json.dumps({"format": FORMAT, **asdict(known)}).encode()
        books.cloud.storage.put(books.bucket, names.observation(look.vm.id), body)

    done = each(looks, write, books.clock)
    return [f"observation: {error}" for _, error in done if isinstance(error, FailedError)]


def close(
    books: Books, alive: set[str], states: Mapping[str, Known] | None
) -> tuple[list[str], list[str]]:
    """Write the record of every life that is over and has none; returns ids and error lines.

    alive: ids that Compute listed. states: what the stacks' states know, by id (by the VM's name
    where a create was cut off), for a VM that lived and died between two ticks; None where not all
    could be read. CloudError when operations or books cannot be listed.
    """
    by_vm = _operations(books.cloud)
    written = _ids(books, names.LEDGER_PREFIX)
    seen = _ids(books, names.OBSERVATION_PREFIX)
    over = sorted((seen | by_vm.keys()) - alive - (written - seen))

    new: list[str] = []

    def write(vm_id: str) -> None:
        """The last look stays until there is a record."""
        if vm_id not in written:
            record = _told(books, vm_id, by_vm.get(vm_id, []), states)
            if record is None:
                return
            name = names.ledger(vm_id)
            put = books.cloud.storage.put(books.bucket, name, record, if_generation_match=0)
            if put is not None:  # else another run was faster
                new.append(vm_id)
        books.cloud.storage.delete(books.bucket, names.observation(vm_id))

    done = each(over, write, books.clock)
    errors = [f"ledger of VM {vm_id}: {e}" for vm_id, e in done if isinstance(e, FailedError)]
    return sorted(new), errors


def _operations(cloud: Cloud) -> dict[str, list[Operation]]:
    """All that Compute still has on VMs of ours, by the VM's number."""
    by_vm: dict[str, list[Operation]] = defaultdict(list)
    for raw in cloud.compute.operations(OPERATIONS):
        operation = parse_operation(raw)
        if operation is not None:
            by_vm[operation.vm_id].append(operation)
    return dict(by_vm)


def _told(
    books: Books, vm_id: str, operations: list[Operation], states: Mapping[str, Known] | None
) -> bytes | None:
    """One VM's record; None while it cannot be written: Compute is at work on it, or has not told
    how it ended, or the VM is there after all (its zone was not listed), or the state that knows
    what it was for could not be read this time."""
    cloud, bucket = books.cloud, books.bucket
    if not is_over(operations):
        return None
    known = books.seen.get(vm_id) or _load(books, vm_id)
    patient = is_fresh(operations, known, books.clock.now())
    if patient and not is_told(operations):
        return None
    if known is None and not operations:
        raise FailedError("its last look is not understood, and no operation tells of it")
    zone = known.zone if known else operations[-1].zone
    if vm_id not in books.gone and cloud.compute.instance(zone, vm_id) is not None:
        return None
    if known is None:
        found = states or {}
        known = found.get(vm_id) or recall(cloud, bucket, operations)
        known = known or found.get(operations[-1].vm)
    if known is None and states is None and patient:
        return None
    return tell(vm_id, operations, known).to_json()


def _ids(books: Books, prefix: str) -> set[str]:
    found = (str(item["name"]) for item in books.cloud.storage.list(books.bucket, prefix))
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
        message=line(said.get("message")),
        timeline=timeline(said.get("timeline")),
        ending=_ending(look, before.ending if before else None),
    )
    if said or before is None:
        return known
    # A halted VM may answer no more; what it said last still holds.
    return replace(known, phase=before.phase, message=before.message, timeline=before.timeline)


def _ending(look: Look, before: Ending | None) -> Ending | None:
    verdict = look.verdict
    if not verdict.end:
        return None
    # Without an operation the decision counts too: the answer to a delete may have been lost. Who
    # really ended the VM is for its operations to say.
    sent = () if look.operation is None else (look.operation,)
    if before is not None:
        return replace(before, operations=(*before.operations, *sent))
    return Ending(kind=verdict.kind, reason=verdict.reason, operations=sent)


def _load(books: Books, vm_id: str) -> Known | None:
    """The last look at a VM; None when there is none that can be read (ours, but in a bucket)."""
    blob = books.cloud.storage.get(books.bucket, names.observation(vm_id))
    raw = dict(mapping(blob.data)) if blob else {}
    if raw.pop("format", None) != FORMAT or raw.keys() != Known.__dataclass_fields__.keys():
        return None
    ending = raw["ending"]
    raw["ending"] = (
        Ending(**{**ending, "operations": tuple(ending["operations"])}) if ending else None
    )
    raw["timeline"] = tuple(raw["timeline"])
    return Known(**raw)
