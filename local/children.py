"""The processes of a local cloud: each in a session of its own, all of them gone when we are."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
STOP_GRACE_S = 5.0


@dataclass(frozen=True)
class Child:
    """One running command. `log` holds its stdout and stderr."""

    name: str
    log: Path
    tether: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The command's own process id (not the tether's); 0 once it has ended."""
        listing = Path(f"/proc/{self.tether.pid}/task/{self.tether.pid}/children")
        try:
            first = listing.read_text().split()
        except OSError:
            return 0
        return int(first[0]) if first else 0

    @property
    def alive(self) -> bool:
        return self.tether.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines it wrote, for a message that explains a failure."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Children:
    """Starts commands and ends them. Safe to call from any thread."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []
        self._lock = threading.Lock()
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        grace_s: float = STOP_GRACE_S,
    ) -> Child:
        """Start `command`; its output goes to <log_dir>/<name>.log.

        grace_s: between SIGTERM and SIGKILL.
        """
        log = self._log_dir / f"{name}.log"
        with log.open("ab") as output:
            tether = subprocess.Popen(
                [sys.executable, "-I", "-S", str(TETHER), str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        child = Child(name, log, tether)
        with self._lock:
            self._children.append(child)
        return child

    def stop(self, child: Child, *, grace_s: float = STOP_GRACE_S) -> None:
        """End one child and all it started; returns when they are gone."""
        _let_go(child)
        _wait(child, grace_s)
        with self._lock:
            self._children = [c for c in self._children if c is not child]

    def stop_all(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """End all of them side by side; returns when they are gone."""
        with self._lock:
            children, self._children = self._children, []
        for child in children:
            _let_go(child)
        for child in children:
            _wait(child, grace_s)


def _let_go(child: Child) -> None:
    if child.tether.stdin:
        child.tether.stdin.close()


def _wait(child: Child, grace_s: float) -> None:
    try:
        child.tether.wait(grace_s + 5)
    except subprocess.TimeoutExpired:
        os.killpg(child.tether.pid, 9)
        child.tether.wait(5)


def free_port() -> int:
    """A port of loopback that nobody has; somebody may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, child: Child, limit_s: float) -> bool:
    """Whether somebody listens before the child dies or the limit is over."""
    deadline = time.monotonic() + limit_s
    while child.alive and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        return True
    return False


def minimal_environment() -> dict[str, str]:
    """For children that need nothing of the user's: no credentials, no proxies."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
