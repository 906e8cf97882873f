"""Pulumi's state locks: live ones are waited for, those left behind are removed one by one.

The engine's locks have no expiry. `pulumi cancel` would remove live ones too, so it is not used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud
from reaper.claims import line, mapping, moment
from reaper.lease import Run

# The engine takes its lock in the first seconds of a destroy.
LOCKED_WITHIN_S = 120


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One lock object. made_at: Unix seconds, by the bucket's clock."""

    name: str
    generation: int
    made_at: float
    holder: str
    pid: object
    host: object


def read(cloud: Cloud, bucket: str, stack: str) -> list[Lock]:
    """All locks on a stack."""
    found = []
    for item in cloud.storage.list(bucket, names.stack_locks(stack)):
        blob = cloud.storage.get(bucket, str(item["name"]))
        if blob is not None:
            found.append(_lock(item, blob.generation, mapping(blob.data)))
    return found


def is_stale(lock: Lock, runs: Iterable[Run], now: float, stale_s: float) -> bool:
    """True for a lock older than the longest `up`, or left by a run of ours that is over."""
    return now - lock.made_at > stale_s or any(
        (lock.pid, lock.host) == (run.pid, run.host)
        and run.until < now
        and -LOCKED_WITHIN_S < lock.made_at - run.since < LOCKED_WITHIN_S
        for run in runs
    )


def is_of(lock: Lock, run: Run) -> bool:
    """True for the lock that this process took."""
    return (lock.pid, lock.host) == (run.pid, run.host)


def remove(cloud: Cloud, bucket: str, lock: Lock) -> bool:
    """Remove this very lock. False: it is another one by now, which is live."""
    return cloud.storage.delete(bucket, lock.name, if_generation_match=lock.generation)


def _lock(item: Mapping[str, Any], generation: int, body: Mapping[str, Any]) -> Lock:
    user, host = line(body.get("username")) or "?", line(body.get("hostname")) or "?"
    return Lock(
        name=str(item["name"]),
        generation=generation,
        # Without a time it cannot be called old.
        made_at=moment(item.get("updated")) or moment(item.get("timeCreated")) or float("inf"),
        holder=f"{user}@{host}",
        pid=body.get("pid"),
        host=body.get("hostname"),
    )
