"""The watchdog as a process of its own: killed, and on a disk that is really full."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from startup import paths
from tests.conftest import ROOT
from tests.fake_google import FakeGoogle
from tests.unit.test_watchdog import FakeVllm

IDLE_S, HEARTBEAT_S = 8.0, 4.0
PERIOD_S = IDLE_S / 8
BOUND_S = 60.0
# A disk of 64 KiB, full to the last byte, the log on it too.
ON_A_FULL_DISK = """set -eu
mount -t tmpfs -o size=64k none "$MAYFLY_ROOT"
mkdir -p "$MAYFLY_ROOT"/{run/mayfly,var/lib/mayfly,dev/pts,proc}
echo serving >"$MAYFLY_ROOT/run/mayfly/phase"
: >"$MAYFLY_ROOT/watchdog.log"
! cat /dev/zero >"$MAYFLY_ROOT/filler" 2>/dev/null
exec "$0" -m startup.watchdog >>"$MAYFLY_ROOT/watchdog.log" 2>&1
"""


class Node:
    """A machine that serves, with a systemctl that only remembers."""

    def __init__(self, folder: Path, google: FakeGoogle, vllm: FakeVllm) -> None:
        self.google, self.vllm = google, vllm
        self.root, self.log = folder / "root", folder / "calls"
        for name in ("run/mayfly", "var/lib/mayfly", "dev/pts", "proc"):
            (self.root / name).mkdir(parents=True)
        (self.root / "run/mayfly/phase").write_text("serving")
        (folder / "bin").mkdir()
        stub = folder / "bin/systemctl"
        stub.write_text(f'#!/bin/sh\necho "$*" >>{self.log}\n')
        stub.chmod(0o755)
        limits = {"IDLE": IDLE_S, "START": 600, "FAILED": 60, "HEARTBEAT": HEARTBEAT_S}
        self.environment = {
            **{f"MAYFLY_{name}_S": str(value) for name, value in limits.items()},
            **google.environment(),
            "MAYFLY_MAX_LIFE_S": "600",
            "MAYFLY_ROOT": str(self.root),
            "MAYFLY_PORT": str(vllm.server.server_port),
            "MAYFLY_STATE_BUCKET": "s",
            "MAYFLY_SESSION": "dev",
            "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        words = command or (sys.executable, "-m", "startup.watchdog")
        self.running.append(subprocess.Popen(words, env=self.environment, cwd=ROOT))
        return self.running[-1]

    def powered_off(self) -> bool:
        return "poweroff" in paths.read(self.log).splitlines()

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "buckets").mkdir()
    google, vllm = FakeGoogle(tmp_path / "buckets"), FakeVllm()
    made = Node(tmp_path, google, vllm)
    yield made
    made.close()
    google.close()
    vllm.close()


def wait(what: Callable[[], bool], bound_s: float = BOUND_S) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < bound_s, "it never was"
        time.sleep(0.05)
    return time.monotonic() - began


def test_watchdog_counts_on_from_before_when_it_is_killed_and_started_again(node: Node):
    """kill -9 is the cheapest way to a free night, if the clock starts anew."""
    began = time.monotonic()
    first = node.start()
    wait(lambda: "active_at" in node.google.guest)
    active_at = node.google.guest["active_at"]
    wait(lambda: time.monotonic() - began > IDLE_S / 2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    node.start()
    wait(node.powered_off)

    assert node.google.guest["active_at"] == active_at
    assert time.monotonic() - began >= IDLE_S - PERIOD_S


def test_watchdog_stays_and_then_ends_it_when_the_disk_is_full(node: Node):
    """Neither is a session in use cut off, nor does a forgotten one go on for want of a byte."""
    node.vllm.running = 1.0
    words = ["unshare", "--map-root-user", "--mount", "bash", "-c", ON_A_FULL_DISK]
    process = node.start(*words, sys.executable)
    wait(lambda: "heartbeat" in node.google.guest)
    began = time.monotonic()
    wait(lambda: time.monotonic() - began > HEARTBEAT_S + 3 * PERIOD_S)
    assert process.poll() is None, "it ended over a line that it could not write"
    assert not node.powered_off()

    node.vllm.running = 0.0
    took_s = wait(node.powered_off)

    assert took_s >= IDLE_S - PERIOD_S
    assert process.poll() is None
