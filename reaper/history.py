"""What a stack's finished updates tell of a VM that no look ever saw.

A launch that failed, and a life between two looks whose stack is gone again, leave this and the
zone's operations. The engine writes two objects when an update ends, failed or not:
`<stack>-<nanoseconds>.history.json` (when, and the configuration) and `.checkpoint.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.claims import amount, mapping
from mayfly.cloud import Cloud
from reaper.life import INSERT, Known, Operation
from reaper.stack import UNREADABLE, StateError, parse, plain
from reaper.vm import kept_settings

HISTORY, CHECKPOINT, GZ = ".history.json", ".checkpoint.json", ".gz"
# Updates of a stack follow each other; the one that made a VM is the first to end after that.
UPDATES_READ = 2
# The engine's start is in whole seconds of the user's clock, the insert's by Google's.
CLOCK_SKEW_S = 60.0
OUR_WORD = {"startedBy": "started_by", "rateSource": "rate_source", "rateDate": "rate_date"}


@dataclass(frozen=True)
class Update:
    """A finished update. stem: its objects' names without their endings; ended: Unix seconds."""

    stem: str
    ended: float


def recall(cloud: Cloud, bucket: str, operations: Sequence[Operation]) -> Known | None:
    """What is known of the VM that these operations are about; None if no update tells.

    CloudError when the bucket cannot be read.
    """
    inserts = [operation for operation in operations if operation.kind == INSERT]
    session = names.session_of(inserts[0].vm) if inserts else None
    if session is None:
        return None
    made = inserts[0]
    for update in _after(cloud, bucket, session, made.started):
        told = mapping(_read(cloud, bucket, update.stem + HISTORY))
        started = amount(told.get("startTime"))
        if started is None or started > made.started + CLOCK_SKEW_S:
            continue
        settings = {
            **_configured(told.get("config")),
            **_in_state(_read(cloud, bucket, update.stem + CHECKPOINT), session, made.vm_id),
        }
        return Known(name=made.vm, zone=made.zone, settings={"session": session, **settings})
    return None


def _after(cloud: Cloud, bucket: str, stack: str, at: float) -> list[Update]:
    """The first updates that ended after a moment, oldest first."""
    found = []
    for item in cloud.storage.list(bucket, names.stack_history(stack)):
        name = str(item["name"]).removesuffix(GZ)
        stem = name.removesuffix(HISTORY)
        ended_ns = stem.rpartition("-")[2]
        if stem != name and ended_ns.isdigit():
            found.append(Update(stem, int(ended_ns) / 1e9))
    later = [update for update in found if update.ended > at - CLOCK_SKEW_S]
    return sorted(later, key=lambda update: update.ended)[:UPDATES_READ]


def _read(cloud: Cloud, bucket: str, name: str) -> bytes:
    """Empty where there is none that can be read."""
    blob = cloud.storage.get(bucket, name) or cloud.storage.get(bucket, name + GZ)
    try:
        return plain(blob.data) if blob is not None else b""
    except UNREADABLE:
        return b""


def _configured(config: object) -> Mapping[str, Any]:
    """What the stack's own configuration says; its defaults are not in there."""
    found = config if isinstance(config, dict) else {}
    plain = {
        key.removeprefix(f"{names.PROJECT}:"): value
        for key, value in found.items()
        if isinstance(value, str)
    }
    settings: dict[str, Any] = {OUR_WORD.get(key, key): value for key, value in plain.items()}
    try:
        settings["hourly_usd"] = float(plain.get("hourlyUsd", ""))
    except ValueError:
        settings.pop("hourly_usd", None)
    return kept_settings(settings)


def _in_state(checkpoint: bytes, session: str, vm_id: str) -> Mapping[str, Any]:
    """What the program wrote about this very VM, where the update made it."""
    try:
        machines = parse(session, checkpoint).machines if checkpoint else ()
    except StateError:
        return {}
    return next((machine.settings for machine in machines if machine.id == vm_id), {})
