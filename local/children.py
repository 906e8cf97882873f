"""The processes of a local cloud: each in a session of its own, all of them gone when we are."""

import contextlib
import os
import random
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
HOST = "127.0.0.1"
PORTS, PORTS_TRIED = range(20_000, 32_000), 100


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
    """A port of loopback for a server that sets SO_REUSEADDR, as all do that we start.

    Nobody else gets it: systems give out none of PORTS by themselves, and for a minute, while it is
    in TIME_WAIT, nobody finds it free who asks here. A port that was merely free a moment ago has
    another owner once in some hundred times, before a slow program listens there.
    """
    for port in random.sample(PORTS, PORTS_TRIED):
        with contextlib.suppress(OSError), socket.socket() as server:
            server.bind((HOST, port))  # not yet with SO_REUSEADDR: that would take what waits
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.listen()
            with socket.create_connection((HOST, port)):
                server.accept()[0].close()  # who closes first is left in TIME_WAIT
            return port
    raise OSError(f"none of {PORTS_TRIED} ports between {PORTS[0]} and {PORTS[-1]} is free")


def wait_for_port(port: int, child: Child, limit_s: float) -> bool:
    """Whether somebody listens before the child dies or the limit is over."""
    deadline = time.monotonic() + limit_s
    while child.alive and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        return True
    return False


def minimal_environment() -> dict[str, str]:
    """For children that need nothing of the user's: no credentials, no proxies."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
