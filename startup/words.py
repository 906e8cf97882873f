"""What a VM says of itself: phase, message, timeline; to /run/mayfly and as guest attributes."""

import json
import time

from startup import cloud, paths

MAX_MESSAGE_BYTES = 1000
MAX_TIMELINE_BYTES = 8000


def plain(text: str) -> str:
    """One line that fits a guest attribute."""
    line = " ".join(text.split())
    return line.encode()[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def phase() -> str:
    return paths.read(paths.run_dir() / "phase") or "booting"


def set_message(text: str) -> None:
    paths.write(paths.run_dir() / "message", plain(text))
    cloud.publish("message", plain(text))


def set_phase(name: str, message: str | None = None) -> None:
    """Message first: who sees "failed" shall find the reason. After `ended` nothing is said."""
    if phase() == "ended":
        return
    if message is not None:
        set_message(message)
    paths.write(paths.run_dir() / "phase", name)
    cloud.publish("phase", name)


def rfc3339(at: float, digits: int = 0) -> str:
    """Unix seconds as UTC; digits: of the second's fraction."""
    whole, fraction = divmod(round(at * 10**digits), 10**digits)
    tail = f".{fraction:0{digits}d}Z" if digits else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + tail


class Timeline:
    """The stages' starts and ends, over reboots. Published whole at each change."""

    def __init__(self) -> None:
        self._path = paths.state_dir() / "timeline.json"
        try:
            self._entries: list[dict[str, object]] = json.loads(paths.read(self._path) or "[]")
        except ValueError:
            self._entries = []  # half a disk after a crash; only the history is lost
        # What the machine went down under runs again: it neither failed nor is it done.
        self._entries = [entry for entry in self._entries if entry["end"] is not None]

    def start(self, stage: str) -> None:
        now = rfc3339(time.time(), 3)
        entry: dict[str, object] = {
            "stage": stage,
            "start": now,
            "end": None,
            "bytes": None,
            "ok": None,
        }
        self._entries.append(entry)
        self._tell()

    def end(self, stage: str, ok: bool, size: int | None) -> None:
        entry = next(e for e in reversed(self._entries) if e["stage"] == stage)
        entry.update(end=rfc3339(time.time(), 3), ok=ok, bytes=size)
        self._tell()

    def drop(self, stage: str) -> None:
        """It was cut off for another's sake: as if it had not started."""
        self._entries = [e for e in self._entries if e["stage"] != stage or e["end"] is not None]
        self._tell()

    def _tell(self) -> None:
        text = json.dumps(self._entries, separators=(",", ":"))
        while len(text) > MAX_TIMELINE_BYTES:
            del self._entries[0]
            text = json.dumps(self._entries, separators=(",", ":"))
        paths.write(self._path, text)
        cloud.publish("timeline", text)
