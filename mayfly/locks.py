"""Pulumi's state locks in a bucket, as the reaper and `mayfly doctor` read and remove them.

The engine's locks have no expiry. `pulumi cancel` would remove live ones too, so it is not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.claims import line, mapping, moment
from mayfly.cloud import Cloud

LONGEST_UP_S = 3600.0
"""A lock that is older was left behind."""
HOLDER_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One lock object. made_at: Unix seconds, by the bucket's clock. pid, host: as written."""

    name: str
    generation: int
    made_at: float
    holder: str
    pid: object
    host: object


def read(cloud: Cloud, bucket: str, stack: str) -> list[Lock]:
    """All locks on a stack."""
    return below(cloud, bucket, names.stack_locks(stack))


def below(cloud: Cloud, bucket: str, prefix: str) -> list[Lock]:
    """All locks whose objects' names begin so."""
    found = []
    for item in cloud.storage.list(bucket, prefix):
        blob = cloud.storage.get(bucket, str(item["name"]))
        if blob is not None:
            found.append(_lock(item, blob.generation, mapping(blob.data)))
    return found


def is_old(lock: Lock, now: float, limit_s: float = LONGEST_UP_S) -> bool:
    """True for a lock that is older than the longest `up`."""
    return now - lock.made_at > limit_s


def remove(cloud: Cloud, bucket: str, lock: Lock) -> bool:
    """Remove this very lock. False: it is another one by now, which is live."""
    return cloud.storage.delete(bucket, lock.name, if_generation_match=lock.generation)


def _lock(item: Mapping[str, Any], generation: int, body: Mapping[str, Any]) -> Lock:
    user, host = (line(body.get(key), HOLDER_CHARS) or "?" for key in ("username", "hostname"))
    return Lock(
        name=str(item["name"]),
        generation=generation,
        # Without a time it cannot be called old.
        made_at=moment(item.get("updated")) or moment(item.get("timeCreated")) or float("inf"),
        holder=f"{user}@{host}",
        pid=body.get("pid"),
        host=body.get("hostname"),
    )
