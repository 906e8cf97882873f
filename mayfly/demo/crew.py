"""The demo's processes: logged, told while they take long, ended with it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mayfly.errors import FailedError

# pulumi's dots, what it says of where it found its plugins, and what is for machines to read.
NO_NEWS = re.compile(r"^[@{}]|^export |warning: using pulumi-")
# What pulumi writes before each line of a running command.
PREFIX = re.compile(r"^[+~-]\s+command:local:Command \S+ creat(?:ing|ed) \([\d.]+s\)\s*(?=\S)")
POLL_S = 0.1
TELL_EVERY_S, TELL_AGAIN_S = 2.0, 10.0
TAIL_LINES = 40
STOP_GRACE_S = 5.0
NOTHING_BILLED = "It all ran on the local cloud; nothing is billed."


@dataclass(frozen=True)
class Child:
    """A running command; out and err hold what it writes. grace_s: from SIGTERM to SIGKILL."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    grace_s: float

    def ended(self) -> bool:
        return self.process.poll() is not None

    def last_line(self) -> str:
        """What it said last, for progress; dots and warnings are none."""
        newest = max((self.out, self.err), key=lambda path: path.stat().st_mtime_ns)
        lines = [line.strip() for line in newest.read_text(errors="replace").splitlines()]
        news = (line for line in reversed(lines) if line and not NO_NEWS.search(line))
        return PREFIX.sub("", next(news, ""))

    def tail(self) -> str:
        """The end of all it said, for a failure."""
        said = self.out.read_text(errors="replace") + self.err.read_text(errors="replace")
        return "\n".join(f"    | {line}" for line in said.splitlines()[-TAIL_LINES:])


class Crew:
    """Starts the demo's commands, with the demo's own environment."""

    def __init__(self, logs: Path, tell: Callable[[str], None]) -> None:
        self._logs, self._tell = logs, tell
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self, name: str, command: Sequence[str], cwd: Path, grace_s: float = STOP_GRACE_S
    ) -> Child:
        """Start a command and go on."""
        number = len(self._children)
        out, err = (self._logs / f"{number:02}-{name}.{end}" for end in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                start_new_session=True,
            )
        child = Child(name, process, out, err, grace_s)
        self._children.append(child)
        return child

    def run(self, name: str, command: Sequence[str], cwd: Path, limit_s: float = 300) -> str:
        """Run a command to its end and return its stdout. FailedError with its last words."""
        return self.finish(self.start(name, command, cwd), limit_s)

    def finish(self, child: Child, limit_s: float) -> str:
        """Wait for a child's end; its stdout. FailedError with its last words."""
        self.until(f"{child.name} to end", child.ended, limit_s, child)
        if child.process.returncode:
            raise FailedError(
                f"{child.tail()}\n{child.name} ended with status {child.process.returncode}.",
                NOTHING_BILLED,
            )
        return child.out.read_text()

    def until(
        self,
        what: str,
        done: Callable[[], bool],
        limit_s: float,
        child: Child | None = None,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        """Wait for a condition; tell what the child says meanwhile. FailedError when time is up."""
        start = told_at = time.monotonic()
        told = ""
        while not done():
            now = time.monotonic()
            if now - start > limit_s:
                tail = f"{child.tail()}\n" if child else ""
                raise FailedError(f"{tail}Waited {limit_s:.0f} s for {what}.", NOTHING_BILLED)
            line = child.last_line() if child else f"waiting for {what}"
            if now - told_at >= (TELL_EVERY_S if line != told else TELL_AGAIN_S):
                told, told_at = line, now
                self._tell(f"  {line[:120]}")
            time.sleep(poll_s)

    def stop(self, child: Child) -> None:
        """End one child and its group; returns when it is gone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.process.pid, number)
            except ProcessLookupError:
                break
            try:
                child.process.wait(child.grace_s)
            except subprocess.TimeoutExpired:
                continue
        child.process.wait(child.grace_s)

    def stop_all(self) -> None:
        """End every child, the last one first: nobody uses the local cloud when it goes."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                self.stop(child)
