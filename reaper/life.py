"""One VM's life, told from Compute's operations and the last look at it. Pure.

The operations are the truth about when it ran and who stopped it; what it was for, what it cost an
hour and why the reaper ended it come from the last look.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.claims import line, moment
from mayfly.idle import DONE, rfc3339
from mayfly.ledger import Record, cost_usd
from reaper.vm import last_part

INSERT = "insert"
DELETE = "delete"
PREEMPTED = "compute.instances.preempted"
GUEST = "compute.instances.guestTerminate"
ENDS = frozenset(
    {DELETE, "stop", "suspend", PREEMPTED, GUEST}
    | {f"compute.instances.{word}" for word in ("hostError", "deferredStop", "deferredDelete")}
)
STARTS = frozenset({"start", "resume", "compute.instances.automaticRestart"})
SYSTEM = "system@google.com"
CUT_OFF = "deleted by a run that could not write down why"
# How late Compute may be with its own limit, and how far its clock may be from ours.
DEADLINE_SLACK_S = 120.0
# How long a record waits for what it still lacks. Lists of operations lag, and leave out a zone
# that does not answer; a record that was written too early could never be corrected.
HEARD_WITHIN_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A zone operation on one VM. started, ended: Unix seconds; error: one line or ""."""

    name: str
    kind: str
    vm_id: str
    vm: str
    zone: str
    user: str
    started: float
    ended: float | None
    error: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The reaper's own decision, the first if it had to repeat itself; all deletes it sent."""

    kind: str
    reason: str
    operations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was last known of a VM from a look at it, or at least from its stack's state.

    Times are Unix seconds; settings as `reaper.vm.Vm.settings`.
    """

    name: str
    zone: str
    settings: Mapping[str, Any]
    created_at: float | None = None
    seen_at: float | None = None
    max_life_s: float | None = None
    phase: str | None = None
    message: str | None = None
    timeline: tuple[Mapping[str, Any], ...] = ()
    ending: Ending | None = None


def parse_operation(raw: Mapping[str, Any]) -> Operation | None:
    """Read Compute's operation resource; None for one that is not about a VM of ours."""
    vm = last_part(raw.get("targetLink", ""))
    started = moment(raw.get("startTime")) or moment(raw.get("insertTime"))
    if names.session_of(vm) is None or started is None or not raw.get("targetId"):
        return None
    entries = (raw.get("error") or {}).get("errors") or []
    first = entries[0] if entries else {}
    said = f"{first.get('code', '')}: {first.get('message', '')}" if first else ""
    over = raw.get("status") == "DONE"
    return Operation(
        name=str(raw.get("name", "")),
        kind=str(raw.get("operationType", "")),
        vm_id=str(raw["targetId"]),
        vm=vm,
        zone=last_part(raw.get("zone", "")),
        user=str(raw.get("user", "")),
        started=started,
        ended=(moment(raw.get("endTime")) or started) if over else None,
        error=line(said) or "",
    )


def is_over(operations: Iterable[Operation]) -> bool:
    """False while Compute is still at work on the VM."""
    return all(operation.ended is not None for operation in operations)


def is_told(operations: Sequence[Operation]) -> bool:
    """True once the operations say how it ended."""
    return _last_end(operations) is not None or bool(_failed_inserts(operations))


def is_fresh(operations: Sequence[Operation], known: Known | None, now: float) -> bool:
    """True while something has been heard of it within the hour: what is missing may yet come."""
    heard = [operation.ended or operation.started for operation in operations]
    if known is not None and known.seen_at is not None:
        heard.append(known.seen_at)
    return now - max(heard, default=0) < HEARD_WITHIN_S


def tell(vm_id: str, operations: Sequence[Operation], known: Known | None) -> Record:
    """The record of a life that is over. Operations are those of this VM, in any order."""
    told = sorted(operations, key=lambda operation: operation.ended or operation.started)
    spans = _spans(told, known)
    seconds = round(sum(end - start for start, end in spans), 3)
    settings = known.settings if known else {}
    name = known.name if known else told[-1].vm
    rate = settings.get("hourly_usd")
    ended_by, reason = _ender(told, known, seconds)
    return Record(
        instance_id=vm_id,
        vm=name,
        zone=known.zone if known else told[-1].zone,
        layer=settings.get("layer"),
        session=settings.get("session") or names.session_of(name),
        profile=settings.get("profile"),
        started_by=settings.get("started_by") or _starter(told),
        machine=settings.get("machine"),
        provisioning=settings.get("provisioning"),
        created=rfc3339(_created(told, known)),
        ended=rfc3339(spans[-1][1] if spans else _created(told, known)),
        seconds=seconds,
        usd_per_h=rate,
        rate_source=settings.get("rate_source"),
        rate_date=settings.get("rate_date"),
        usd=0.0 if seconds == 0 else cost_usd(seconds, rate),
        ended_by=ended_by,
        reason=reason,
        timeline=known.timeline if known else (),
    )


def _created(told: Sequence[Operation], known: Known | None) -> float | None:
    inserts = [operation.started for operation in told if operation.kind == INSERT]
    return inserts[0] if inserts else known.created_at if known else None


def _failed_inserts(told: Iterable[Operation]) -> list[Operation]:
    return [operation for operation in told if operation.kind == INSERT and operation.error]


def _starter(told: Sequence[Operation]) -> str | None:
    """Whose credentials asked for it, where its settings are lost."""
    users = [operation.user for operation in told if operation.kind == INSERT]
    return line(users[0]) if users and "@" in users[0] else None


def _spans(told: Sequence[Operation], known: Known | None) -> list[tuple[float, float]]:
    """When it ran. An insert that waits for capacity is not running yet: its end counts."""
    spans: list[tuple[float, float]] = []
    running_since: float | None = None
    if known is not None and not any(operation.kind == INSERT for operation in told):
        running_since = known.created_at  # Google no longer has the insert
    for operation in told:
        at = operation.ended or operation.started
        if operation.error:
            continue
        if operation.kind == INSERT or operation.kind in STARTS:
            running_since = at if running_since is None else running_since
        elif operation.kind in ENDS and running_since is not None:
            spans.append((running_since, max(at, running_since)))
            running_since = None
    if running_since is not None:  # nobody told how it ended: up to the last look
        last = known.seen_at if known else None
        spans.append((running_since, max(last or running_since, running_since)))
    return spans


def _ender(told: Sequence[Operation], known: Known | None, seconds: float) -> tuple[str, str]:
    """Who, and one sentence why. The end of the last running span decides, not the clean-up."""
    failed = _failed_inserts(told)
    if failed:
        return "google", f"it was never started: {failed[0].error}"
    end = _last_end(told)
    if end is None:
        return _unseen(known)
    if end.kind == PREEMPTED:
        return "google", "preempted"
    ending = known.ending if known else None
    ours = ending is not None and end.name in ending.operations
    if end.kind == GUEST or (ours and ending is not None and ending.kind == "gone"):
        return _by_itself(known)
    if ours and ending is not None:
        return "reaper", ending.reason
    if end.user.startswith(f"{names.REAPER}@"):
        return "reaper", ending.reason if ending else CUT_OFF
    if "@" in end.user and end.user != SYSTEM:
        return "user", f"{end.kind} by {end.user}"
    life_s = known.max_life_s if known else None
    if life_s is not None and seconds >= life_s - DEADLINE_SLACK_S:
        return "google", f"its longest life of {life_s:.0f} s was over"
    return "google", f"{end.kind} by Google"


def _last_end(told: Sequence[Operation]) -> Operation | None:
    """The operation that stopped it last while it ran: the first to begin, if several overlap.

    A VM that Google takes back is seen as STOPPING, and our own delete may be done before Google's.
    """
    last, running = None, True
    for operation in sorted(told, key=lambda operation: operation.started):
        if operation.error:
            continue
        if operation.kind in ENDS and running:
            last, running = operation, False
        elif operation.kind in STARTS:
            running = True
    return last


def _by_itself(known: Known | None) -> tuple[str, str]:
    """The guest halted. Its watchdog says why before it does; anybody else does not."""
    if known is not None and known.phase in DONE:
        return "watchdog", known.message or f"its own last word was {known.phase!r}"
    last = f", its last phase was {known.phase!r}" if known and known.phase else ""
    return "unknown", f"the guest halted{last}"


def _unseen(known: Known | None) -> tuple[str, str]:
    if known is not None and known.ending is not None:
        return "reaper", known.ending.reason
    return "unknown", "it is gone and no operation says why"
