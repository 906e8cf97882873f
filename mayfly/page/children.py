"""What the page does, it does by mayfly's own commands: the same checks, words and exit codes."""

import json
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from mayfly.errors import FailedError, MayflyError, RefusedError, WrongInputError

COMMAND = (sys.executable, "-m", "mayfly.cli")
LIMIT_S = 60.0
END_S = 20.0
KEPT_LINES = 12
KINDS: dict[int, type[MayflyError]] = {2: WrongInputError, 3: RefusedError}


def run(root: Path, *words: str) -> None:
    """Run one command to its end. Raises the error that it told."""
    try:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(
            f"`mayfly {' '.join(words)}` took longer than {LIMIT_S:.0f} s and was ended.",
            "Whether it was done is not known.",
            "Try: mayfly status",
        ) from error
    if done.returncode:
        raise told(done.returncode, done.stderr.splitlines())


def told(code: int, lines: list[str]) -> MayflyError:
    """The error that a command ended with, from the last three lines that it said."""
    last = [line for line in lines if line.strip()][-3:]
    return KINDS.get(code, FailedError)(*(last or [f"It ended with status {code}."]))


def begin(root: Path, *words: str, stderr: int) -> subprocess.Popen[str]:
    """Start one command, whose stdout is a pipe.

    In a session of its own: the terminal's Ctrl-C must not cut off a destroy.
    """
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        start_new_session=True,
    )


class Down:
    """One `mayfly down`, which takes minutes; it goes on whatever becomes of the browser."""

    def __init__(self, root: Path, session: str) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = begin(root, "down", session, "--yes", stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._process:
            for line in self._process.stdout or ():
                self._lines.append(line.rstrip())

    @property
    def running(self) -> bool:
        return self._reader.is_alive()

    def wait(self) -> None:
        """Return when it has ended."""
        self._reader.join()

    def facts(self) -> dict[str, Any]:
        """state: "running", "done" or "failed"; lines: the last ones that it said."""
        ended = not self.running
        state = "running" if not ended else "failed" if self._process.returncode else "done"
        return {"state": state, "lines": list(self._lines)}


class Line:
    """One `mayfly connect`, which holds the tunnel and mends it; the key comes by its pipe."""

    def __init__(self, root: Path, session: str) -> None:
        words = ("connect", session, "--json", "--show-key")
        self._process = begin(root, *words, stderr=subprocess.PIPE)
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._found: dict[str, Any] = {}
        self._ready = threading.Lock()

    def _read(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line.rstrip())

    @property
    def up(self) -> bool:
        return self._process.poll() is None

    @property
    def base_url(self) -> str | None:
        """Where the endpoint answers on this machine; None while the line is being opened."""
        return self._found.get("base_url")

    def wait_open(self) -> dict[str, Any]:
        """base_url, model and api_key, once the endpoint answers. Raises what connect told."""
        with self._ready:
            if not self._found and self._process.stdout is not None:
                line = self._process.stdout.readline()
                if not line:
                    code = self._process.wait(END_S)
                    self._reader.join(END_S)
                    raise told(code or 1, list(self._said))
                self._found = json.loads(line)
            return self._found

    def close(self) -> None:
        """End the command, its gcloud and its ssh."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
