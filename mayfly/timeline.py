"""A VM's own timeline (guest attribute `mayfly/timeline`), told as it grows."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import vms

MAX_BYTES = 8192
MESSAGE_EVERY_S = 5.0
QUIET_S = 45.0
"""After so long without a line one says what still runs: silence looks like a hang."""


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
            gb, mb = self.bytes / 1e9, self.bytes / 1e6
            text += f", {gb:,.2f} GB" if gb >= 1 else f", {mb:,.1f} MB"
            text += f" at {mb / took_s:,.0f} MB/s" if took_s else ""
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

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = tell, clock
        self._told: dict[str, float] = {}
        self._told_at = clock()
        self._message = ""
        self._message_at = float("-inf")

    def tell(self, timeline: str, message: str) -> None:
        """Tell what is new. timeline: the claim as it came. message: one printable line."""
        now = self._clock()
        stages = parse(timeline)
        running = [stage for stage in stages if stage.end is None]
        for stage in stages:
            if _mark(stage) not in self._told:
                self._told[_mark(stage)] = now
                self._tell(_with_others(stage, running))
        if now - self._message_at >= MESSAGE_EVERY_S:
            self.tell_message(message)
        if now - self._told_at >= QUIET_S and (running or not stages):
            self._tell(self._still(running, now))

    def tell_message(self, message: str) -> None:
        """Tell it at once, if it is new."""
        if message and message != self._message:
            self._message, self._message_at = message, self._clock()
            self._tell(message)

    def _still(self, running: Sequence[Stage], now: float) -> str:
        if not running:
            return "the VM has not told of any stage yet"
        # Since when by our own clock: the VM's may be another.
        each = [f"{stage.name} ({now - self._told[_mark(stage)]:.0f} s)" for stage in running]
        return f"still running: {', '.join(each)}"

    def _tell(self, line: str) -> None:
        self._told_at = self._clock()
        self._say(line)


def _mark(stage: Stage) -> str:
    """A stage may run twice (after a reboot): its start tells the runs apart."""
    return f"{stage.name} {stage.start} {stage.end is None}"


def _with_others(stage: Stage, running: Sequence[Stage]) -> str:
    others = ", ".join(other.name for other in running)
    return f"{stage}; still running: {others}" if stage.end is not None and others else str(stage)
