"""What is left of a session and what is written of it, against what should be."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mayfly import ledger, names
from mayfly.demo.workshop import FOUNDATION
from tests.faults.place import REGION, Place
from tests.faults.scenario import Scenario
from tests.faults.session import Due, Life, Session

# Compute's clock and the ledger's rounding.
LEDGER_SLACK_S = 2.0


@dataclass
class Result:
    """One run of one scenario.

    over_s: seconds of GPU life after it should have ended. processes: of the host, that were seen
    at work for it.
    """

    over_s: float = 0.0
    gpu_left: int = 0
    left: list[str] = field(default_factory=list)
    disk_gb: float = 0.0
    ended_by: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    processes: int = 0
    log: str = ""

    def shown(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Keepsakes:
    """What no session may touch, as it was: objects of the weights, the foundation's resources."""

    weights: dict[str, str]
    foundation: list[str]


def keepsakes(place: Place) -> Keepsakes:
    bucket = names.bucket(place.cloud.project, "weights")
    found = {
        str(item["name"]): str(item.get("crc32c", item.get("md5Hash")))
        for item in place.cloud.storage.list(bucket, "")
    }
    return Keepsakes(found, sorted(place.witness.resources(FOUNDATION)))


def touched(place: Place, before: Keepsakes) -> list[str]:
    """What differs from before, or is missing in the cloud itself."""
    now = keepsakes(place)
    objects = sorted(
        name
        for name in before.weights.keys() | now.weights.keys()
        if before.weights.get(name) != now.weights.get(name)
    )
    lost = [f"foundation: {what}" for what in place.witness.foundation_problems(REGION)]
    if now.foundation != before.foundation:
        lost.append("foundation: its state holds other resources")
    return [f"weights: {name}" for name in objects[:3]] + lost


def over_s(lives: Sequence[Life], due: Sequence[Due]) -> float:
    """GPU seconds after each VM's due time, all together. A VM that nobody spoke of: all its life.

    One that still lives counts up to now.
    """
    at = {one.vm_id: one.at for one in due}
    spans = [(life.ended or time.time()) - at.get(life.vm_id, life.began) for life in lives]
    return sum(max(0.0, span) for span in spans)


def left_in_compute(place: Place, name: str) -> tuple[list[str], float]:
    """What costs under a VM's name: VMs that are not halted, disks; and the disks' GB."""
    machines = [i for i in place.instances() if i["name"] == name]
    disks = [d for d in place.disks() if d["name"] == name or d["name"].startswith(f"{name}-")]
    said = [f"VM {i['name']}" for i in machines if i["status"] != "TERMINATED"]
    said += [f"boot disk {d['name']} ({d['sizeGb']} GB)" for d in disks]
    return said, sum(float(d["sizeGb"]) for d in disks)


def gpus(place: Place, name: str) -> int:
    """VMs of that name whose GPUs are not free."""
    return sum(i["name"] == name and i["status"] != "TERMINATED" for i in place.instances())


def unfinished(session: Session) -> list[str]:
    """What the reaper still has to do about a session that is over."""
    place = session.place
    said, _ = left_in_compute(place, session.vm_name)
    halted = session.instance()
    said += [f"halted VM {halted['name']}"] if halted else []
    said += [f"state: {kind}" for kind in place.witness.resources(session.stack)]
    said += [
        f"no record of VM {life.vm_id}"
        for life in session.lives()
        if place.cloud.storage.get(place.bucket, names.ledger(life.vm_id)) is None
    ]
    return said


def ledger_problems(session: Session, due: Sequence[Due]) -> tuple[list[str], list[str]]:
    """(who ended each VM, what is wrong with the records)."""
    by, problems = [], []
    wanted = {one.vm_id: one.by for one in due}
    if gone := sorted(wanted.keys() - {life.vm_id for life in session.lives()}):
        problems.append(f"Compute has no operation on VM {', '.join(gone)}")
    place = session.place
    for life in session.lives():
        blob = place.cloud.storage.get(place.bucket, names.ledger(life.vm_id))
        if blob is None:
            continue  # `unfinished` says so
        record = ledger.from_json(blob.data, life.vm_id)
        by.append(record.ended_by)
        if record.ended_by not in wanted.get(life.vm_id, ()):
            problems.append(
                f"ledger: ended by {record.ended_by} ({record.reason}), "
                f"not {' or '.join(wanted.get(life.vm_id, ('nobody',)))}"
            )
        lived_s = (life.ended or time.time()) - life.began
        if abs(record.seconds - lived_s) > LEDGER_SLACK_S:
            problems.append(f"ledger: {record.seconds:.1f} s, Compute says {lived_s:.1f} s")
        if names.vm(str(record.session)) != session.vm_name or record.usd is None:
            problems.append(f"ledger: session {record.session}, usd {record.usd}")
    return by, problems


def disk_problems(chosen: Scenario, result: Result) -> list[str]:
    """What may be left: a boot disk, where nobody is there to take it away; nothing else ever."""
    if result.left and not chosen.may_leave_disk:
        return [f"left: {', '.join(result.left)}"]
    return []
