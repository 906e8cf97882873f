"""Child processes: each ends with us, and nothing that it started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.children import Children, wait_for_port
from tests.running import running
from tests.waiting import wait_until

DAEMON = "(setsid sleep 300 & echo $!; sleep 0.01) ; sleep 301"
ENV = {"PATH": os.environ["PATH"]}
OWNER = """
import os, sys, time
from pathlib import Path
from local.children import Children
child = Children(Path(sys.argv[1])).start("a", ["sh", "-c", sys.argv[2]], env=dict(os.environ))
print(child.tether.pid, flush=True)
time.sleep(300)
"""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def first_number(log: Path) -> Callable[[], int]:
    return lambda: int((log.read_text().split() or ["0"])[0]) if log.exists() else 0


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    made = Children(tmp_path)
    yield made
    made.stop_all()


def test_child_and_its_daemon_are_gone_when_it_is_stopped(children: Children) -> None:
    """A function starts engines, and engines start plugins: all must end with it."""
    child = children.start("a", ["sh", "-c", DAEMON], env=ENV)
    daemon = wait_until(first_number(child.log))
    main = child.pid

    children.stop(child)

    assert not [pid for pid in (main, daemon, child.tether.pid) if alive(pid)]


def test_child_and_its_daemon_are_gone_when_the_owner_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives the owner no chance to clean up."""
    root = Path(__file__).parents[2]
    with running(
        [sys.executable, "-c", OWNER, str(tmp_path), DAEMON],
        stdout=subprocess.PIPE,
        env=ENV | {"PYTHONPATH": str(root)},
    ) as owner:
        assert owner.stdout
        tether = int(owner.stdout.readline())
        daemon = wait_until(first_number(tmp_path / "a.log"))

        owner.send_signal(signal.SIGKILL)

    wait_until(lambda: not alive(tether) and not alive(daemon), limit_s=10)


def test_child_is_killed_when_it_does_not_listen(children: Children) -> None:
    """A hung function must not hold up the end."""
    deaf = "trap '' TERM; echo ready; while true; do sleep 0.1; done"
    child = children.start("deaf", ["sh", "-c", deaf], env=ENV, grace_s=0.2)
    wait_until(lambda: "ready" in child.log.read_text())
    pid = child.pid

    children.stop(child, grace_s=0.2)

    assert not alive(pid)


def test_child_tells_its_status_and_last_words_when_it_fails(children: Children) -> None:
    """What a start-up error message is made of."""
    failed = children.start("a", ["sh", "-c", "echo no such disk; exit 7"], env=ENV)
    missing = children.start("b", ["no-such-program"], env=ENV)

    assert (failed.tether.wait(60), missing.tether.wait(60)) == (7, 127)
    assert failed.log_tail() == "no such disk"
    assert "cannot run no-such-program" in missing.log_tail()
    assert not failed.alive
    assert not wait_for_port(9, failed, 5)
