"""The reaper's own lease: only one run destroys stacks, and the next can tell what it left.

Deletes of VMs do not need it; they are by number and harmless twice.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mayfly import idle, names
from mayfly.claims import mapping
from mayfly.cloud import Cloud
from mayfly.errors import FailedError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One `pulumi destroy` that was started. since, until: Unix seconds, whole.

    until: when the function that started it was over at the latest.
    """

    stack: str
    pid: int
    host: str
    since: float
    until: float


class Lease:
    """Held until `release`. Made by `acquire`. Safe to share between threads."""

    def __init__(
        self, cloud: Cloud, bucket: str, generation: int, until: float, left: list[Run]
    ) -> None:
        self._cloud, self._bucket, self._generation = cloud, bucket, generation
        self._until, self._mutex = until, threading.Lock()
        self._runs = list(left)
        self.left = tuple(left)
        """What earlier runs started and never saw the end of."""

    def note(self, run: Run) -> None:
        """Write down a destroy that has just been started.

        FailedError when the lease is no longer ours: the destroy must not go on.
        """
        with self._mutex:
            self._runs.append(run)
            if not self._write():
                raise FailedError("another run of the reaper took the lease")

    def forget(self, stack: str) -> None:
        """A stack's destroys are over and their locks are gone."""
        with self._mutex:
            if any(run.stack == stack for run in self._runs):
                self._runs = [run for run in self._runs if run.stack != stack]
                self._write()

    def release(self) -> None:
        """Let the next run in at once; what is not forgotten stays written down."""
        with self._mutex:
            self._until = 0
            self._write()

    def _write(self) -> bool:
        """False for a lost lease; it is not fought over: whoever holds it writes its own."""
        data = _encode(self._until, self._runs)
        written = self._cloud.storage.put(
            self._bucket, names.REAPER_LEASE, data, if_generation_match=self._generation
        )
        self._generation = self._generation if written is None else written
        return written is not None


def acquire(cloud: Cloud, bucket: str, now: float, seconds: float) -> Lease | None:
    """Take the lease for some seconds; None while another run holds it."""
    blob = cloud.storage.get(bucket, names.REAPER_LEASE)
    held = mapping(blob.data) if blob else {}
    if (idle.parse_time(held.get("until")) or 0) > now:
        return None
    left = [run for entry in held.get("runs") or [] if (run := _run(entry)) is not None]
    generation = cloud.storage.put(
        bucket,
        names.REAPER_LEASE,
        _encode(now + seconds, left),
        if_generation_match=blob.generation if blob else 0,
    )
    if generation is None:
        return None
    return Lease(cloud, bucket, generation, now + seconds, left)


def _encode(until: float, runs: list[Run]) -> bytes:
    # The holder's word makes two runs' bytes differ, so that a repeated write knows its own.
    body = {
        "until": idle.rfc3339(until),
        "holder": uuid.uuid4().hex,
        "runs": [
            {**asdict(run), "since": idle.rfc3339(run.since), "until": idle.rfc3339(run.until)}
            for run in runs
        ],
    }
    return json.dumps(body).encode()


def _run(entry: object) -> Run | None:
    """A run as written; None for what is not one: it then only waits for its lock's age."""
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(Run)}:
        return None
    found: Mapping[str, Any] = entry
    since, until = idle.parse_time(found["since"]), idle.parse_time(found["until"])
    whole = isinstance(found["stack"], str) and isinstance(found["host"], str)
    if since is None or until is None or not whole or type(found["pid"]) is not int:
        return None
    return Run(stack=found["stack"], pid=found["pid"], host=found["host"], since=since, until=until)
