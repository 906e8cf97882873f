"""What was asked of the fake: a count that never forgets and a list that is bounded."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

KEPT = 20_000


class Calls:
    """Every request to a product's API, in order of their end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._list: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def add(self, **call: Any) -> None:
        with self._lock:
            self._count += 1
            self._list.append(call)

    def report(self) -> dict[str, Any]:
        """`{"count": n, "calls": [...]}`; the list holds the last 20 000."""
        with self._lock:
            return {"count": self._count, "calls": list(self._list)}
