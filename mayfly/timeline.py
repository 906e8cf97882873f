"""A VM's own timeline (guest attribute `mayfly/timeline`), told as it grows."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mayfly import vms

MAX_BYTES = 8192
MESSAGE_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a start. Times are Unix seconds; end, bytes and ok are None while it runs."""

    name: str
    start: float
    end: float | None
    bytes: int | None
    ok: bool | None

    def __str__(self) -> str:
        if self.end is None:
            return f"{self.name}: started"
        took_s = max(0.0, self.end - self.start)
        text = f"{self.name}: {'done' if self.ok else 'FAILED'} in {took_s:.1f} s"
        if self.bytes:
            text += f", {self.bytes / 1e9:.2f} GB"
            text += f" at {self.bytes / 1e6 / took_s:,.0f} MB/s" if took_s else ""
        return text


def parse(claim: str) -> list[Stage]:
    """The stages of a claim; [] for anything malformed or oversized: it is a claim, not truth."""
    if len(claim) > MAX_BYTES:
        return []
    try:
        return [_stage(entry) for entry in json.loads(claim)]
    except (ValueError, TypeError, KeyError):
        return []


def _stage(entry: dict[str, Any]) -> Stage:
    end, size, ok = entry["end"], entry.get("bytes"), entry.get("ok")
    return Stage(
        name=vms.printable(str(entry["stage"]), 40),
        start=vms.seconds(entry["start"]),
        end=None if end is None else vms.seconds(end),
        bytes=size if isinstance(size, int) else None,
        ok=ok if isinstance(ok, bool) else None,
    )


class Teller:
    """Tells each stage's start and end once, and the messages at a pace that people can read."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[str] = set()
        self._message = ""
        self._message_at = float("-inf")

    def tell(self, timeline: str, message: str) -> None:
        """Tell what is new. timeline: the claim as it came. message: one printable line."""
        for stage in parse(timeline):
            # A stage may run twice (after a reboot): its start tells the runs apart.
            mark = f"{stage.name} {stage.start} {stage.end is None}"
            if mark not in self._told:
                self._told.add(mark)
                self._tell(str(stage))
        if time.monotonic() - self._message_at >= MESSAGE_EVERY_S:
            self.tell_message(message)

    def tell_message(self, message: str) -> None:
        """Tell it at once, if it is new."""
        if message and message != self._message:
            self._message, self._message_at = message, time.monotonic()
            self._tell(message)
