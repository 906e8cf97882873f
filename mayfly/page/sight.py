"""What the page shows, read as `mayfly status` reads it: Compute, guest attributes, the bucket.

Nothing here speaks to an endpoint, so a page left open keeps no session alive. However many
browsers ask, Google is asked once in a while only.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mayfly import books, sessions
from mayfly.cloud import Cloud
from mayfly.project import Project

LOOK_EVERY_S = 3.0
LEDGER_EVERY_S = 60.0
LAST_RECORDS = 20
SPEEDS_KEPT = 360
"""Half an hour of looks, where the page asks every five seconds."""

T = TypeVar("T")


class Cached(Generic[T]):
    """One answer for all who ask within `every_s` seconds; a failed read is tried anew."""

    def __init__(self, read: Callable[[], T], every_s: float) -> None:
        self._read, self._every_s = read, every_s
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None

    def get(self) -> T:
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] >= self._every_s:
                self._kept = None
                self._kept = (time.monotonic(), self._read())
            return self._kept[1]

    def forget(self) -> None:
        """Read anew the next time: something was changed."""
        with self._lock:
            self._kept = None


class Sight:
    """One project, as its page shows it. Raises what the door to Google raises."""

    def __init__(self, project: Project, cloud: Cloud) -> None:
        self._project, self._cloud = project, cloud
        self._speeds: dict[str, deque[tuple[float, float]]] = {}
        self.sessions = Cached(self._look, LOOK_EVERY_S)
        self.ledger = Cached(self._books, LEDGER_EVERY_S)

    def _look(self) -> dict[str, Any]:
        rows = sessions.rows(self._cloud)
        now = time.time()
        speeds = {row["vm_id"]: self._speed(row, now) for row in rows}
        self._speeds = speeds
        rows = [row | {"speeds": list(speeds[row["vm_id"]])} for row in rows]
        return {"project": self._project.google_project(), "now": now, "sessions": rows}

    def _speed(self, row: dict[str, Any], now: float) -> deque[tuple[float, float]]:
        """The machine's tokens a second as they were at each look, the newest last."""
        kept = self._speeds.get(row["vm_id"]) or deque(maxlen=SPEEDS_KEPT)
        if row["tok_s"] is not None:
            kept.append((now, row["tok_s"]))
        return kept

    def _books(self) -> dict[str, Any]:
        bucket = self._project.state_bucket(self._cloud.project)
        records = books.read(self._cloud, bucket)
        told = books.told(self._project.google_project(), bucket, records)
        last = told.pop("records")[: -LAST_RECORDS - 1 : -1]
        for record in last:
            del record["timeline"]
        return told | {"last": last}
