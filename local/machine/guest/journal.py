"""The machine's journal: one JSON object a line in JOURNAL, and what goes to the serial console."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

JOURNAL = Path("/var/log/journal/machine.jsonl")
_LIMIT = 16 * 1024 * 1024


class Journal:
    """Writes entries; past the limit the older half is dropped."""

    def __init__(self, console: int) -> None:
        JOURNAL.parent.mkdir(parents=True, exist_ok=True)
        self._console = console
        self._file = JOURNAL.open("a")
        self._boot = str(int(time.time() * 1000))

    def write(self, unit: str, source: tuple[str, int], text: str, *, console: bool) -> None:
        """source: (identifier, pid) as in `vllm[812]`."""
        entry = {
            "t": round(time.time(), 6),
            "boot": self._boot,
            "unit": unit,
            "id": source[0],
            "pid": source[1],
            "text": text,
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if self._file.tell() > _LIMIT:
            self._halve()
        if console:
            self.say(short(entry))

    def say(self, line: str) -> None:
        """Straight to the serial console."""
        os.write(self._console, (line + "\n").encode())

    def _halve(self) -> None:
        lines = JOURNAL.read_text().splitlines(keepends=True)
        self._file.close()
        JOURNAL.write_text("".join(lines[len(lines) // 2 :]))
        self._file = JOURNAL.open("a")


def stamp(seconds: float) -> str:
    """As syslog writes a moment."""
    moment = time.gmtime(seconds)
    return time.strftime("%b ", moment) + f"{moment.tm_mday:2d}" + time.strftime(" %T", moment)


def short(entry: dict[str, Any]) -> str:
    """The line of `journalctl -o short`."""
    origin = f"{stamp(entry['t'])} {socket.gethostname()} {entry['id']}[{entry['pid']}]"
    return f"{origin}: {entry['text']}"
