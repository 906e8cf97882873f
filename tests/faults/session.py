"""One session under a fault: what its user does, what happens to its VM, when it ended."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import names, timeline
from mayfly.vms import seconds
from reaper.life import ENDS
from tests.faults.place import PULUMI_LIMIT_S, Place
from tests.faults.timing import Timing
from tests.waiting import wait_until

UP = ("up", "--yes", "--skip-preview")
WATCHDOG, VLLM = "startup[.]watchdog", "bin/vllm serve"
# Patience with a busy machine; no bound.
SEE_LIMIT_S, SERVE_LIMIT_S = 240.0, 400.0


@dataclass(frozen=True)
class Due:
    """When a VM should have ended (Unix seconds), and who may have ended it, as the ledger says."""

    vm_id: str
    at: float
    by: tuple[str, ...]


@dataclass(frozen=True)
class Life:
    """A VM's GPUs: from when to when (Unix seconds; None = still there), by the operations."""

    vm_id: str
    began: float
    ended: float | None


class Session:
    """A stack of its own in a place that it shares with others."""

    def __init__(self, place: Place, stack: str, timing: Timing) -> None:
        self.place, self.stack, self.timing = place, stack, timing
        self.log = place.logs / f"{stack}.log"
        self.limit_s = SERVE_LIMIT_S
        self.left: tuple[list[str], float] | None = None
        self.vm_name = names.vm(stack)
        self._began = time.monotonic()

    def tell(self, line: str) -> None:
        """One line in the scenario's own log."""
        with self.log.open("a") as log:
            log.write(f"{time.monotonic() - self._began:7.2f} s  {line}\n")

    # -- its user

    def begin_up(self) -> subprocess.Popen[bytes]:
        self.tell("pulumi up")
        return self.place.start_pulumi(self.stack, *UP)

    def serve(self) -> str:
        """Up, until the endpoint answers; the VM's id."""
        self.place.pulumi(self.stack, *UP)
        self.tell(f"serving on VM {self.vm_id}")
        return self.vm_id

    def see_vm(self) -> str:
        """The VM's id, as soon as it is there."""
        wait_until(self.instance, SEE_LIMIT_S)
        return self.vm_id

    def see_phase(self, *phases: str, limit_s: float = SERVE_LIMIT_S) -> str:
        """Wait until the VM says that it is in one of these."""
        vm_id = self.see_vm()
        return str(
            wait_until(
                lambda: (said := self.place.claims(vm_id).get("phase")) in phases and said, limit_s
            )
        )

    def die(self, up: subprocess.Popen[bytes]) -> None:
        """The laptop is gone: the engine and all it started, at once."""
        self.tell("the user's machine dies")
        os.killpg(up.pid, signal.SIGKILL)
        up.wait(PULUMI_LIMIT_S)

    def rename(self, stack: str) -> None:
        """`pulumi stack rename`; the VM keeps the name that it was made with."""
        self.place.pulumi(self.stack, "stack", "rename", stack)
        self.stack = stack

    def unreaped(self) -> list[str]:
        """What the stack's state still holds."""
        return self.place.witness.resources(self.stack)

    # -- its VM

    def instance(self) -> dict[str, Any] | None:
        name = self.vm_name
        return next((i for i in self.place.instances() if i["name"] == name), None)

    @property
    def zone(self) -> str:
        found = self.instance()
        assert found is not None, f"{self.stack} has no VM"
        return str(found["zone"]).rpartition("/")[2]

    @property
    def vm_id(self) -> str:
        found = self.instance()
        assert found is not None, f"{self.stack} has no VM"
        return str(found["id"])

    def served_at(self) -> float:
        """When its last check was done: the end of its start-up, by its own timeline."""
        stages = timeline.parse(self.place.claims(self.vm_id).get("timeline", ""))
        return next(s.end for s in stages if s.name == "check" and s.end is not None)

    def idle_due(self, *by: str) -> list[Due]:
        """A session that served and was never asked: due when it was idle for its limit."""
        return [Due(self.vm_id, self.served_at() + self.timing.limits.idle_s, by)]

    def due_now(self, *by: str) -> list[Due]:
        """Nothing that comes after this moment is of use to anybody."""
        return [Due(self.vm_id, time.time(), by)]

    def deadline_due(self, *by: str) -> list[Due]:
        """The end of the longest life it was given."""
        life = self.lives()[-1]
        return [Due(life.vm_id, life.began + self.timing.limits.max_life_s, by)]

    def halted(self) -> bool:
        """Whether its GPUs are free."""
        return all(life.ended is not None for life in self.lives())

    def pids(self, pattern: str) -> list[int]:
        """Processes of the VM, as the host numbers them, whose command line matches."""
        machines, vm_id = self.place.local.world.machines, self.vm_id
        found = descendants(machines.process(vm_id)) if machines.running(vm_id) else []
        return [pid for pid in found if re.search(pattern, command_line(pid))]

    def send(self, pattern: str, number: signal.Signals) -> None:
        """A signal to a process of the VM, which must be there."""
        pids = wait_until(lambda: self.pids(pattern), SEE_LIMIT_S)
        self.tell(f"{number.name} to {pattern}: {pids}")
        for pid in pids:
            os.kill(pid, number)

    def systemctl(self, *words: str) -> None:
        """As root on the VM."""
        inside = self.pids("/[.]machine/lib/init.py")[0]
        enter = ["nsenter", f"--target={inside}", "--user", "--mount", "--pid", "--uts", "--net"]
        enter += ["systemctl", *words]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=60, check=False)
        self.tell(f"systemctl {' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stderr

    def keep_serial(self) -> None:
        """Copy the VM's console while there is one: it goes with the VM."""
        found = self.instance()
        text = self.place.local.world.machines.serial(str(found["id"])) if found else ""
        if text:
            self.log.with_suffix(".serial").write_text(text)

    def sleep(self, seconds: float) -> None:
        """Time that passes is the fault here."""
        until = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > until, seconds + 1, poll_s=0.2)

    def stop_watchdog(self) -> None:
        """For good: nobody on the VM ends it any more."""
        self.systemctl("stop", "mayfly-watchdog")

    def serve_unwatched(self) -> list[Due]:
        """Up, and the watchdog stopped: idle from then on, and the reaper's to end."""
        self.serve()
        self.stop_watchdog()
        return self.idle_due("reaper")

    # -- what became of it

    def lives(self) -> list[Life]:
        """Every VM that the stack ever had, oldest first."""
        mine = [o for o in self.place.operations() if o["targetLink"].endswith(self._target)]
        inserts = [o for o in mine if o["operationType"] == "insert" and "error" not in o]
        return [_life(insert, mine) for insert in reversed(inserts)]

    @property
    def _target(self) -> str:
        return f"/instances/{self.vm_name}"


def _life(insert: dict[str, Any], operations: list[dict[str, Any]]) -> Life:
    ends = [
        seconds(o["endTime"])
        for o in operations
        if o["targetId"] == insert["targetId"]
        and o["operationType"] in ENDS
        and "endTime" in o
        and "error" not in o
    ]
    began = seconds(insert.get("endTime") or insert["startTime"])
    return Life(str(insert["targetId"]), began, min(ends, default=None))


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := parent_of(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def parent_of(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it ended while we looked


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
