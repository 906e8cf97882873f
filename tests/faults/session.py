"""One session under a fault: what its user does, what happens to its VM, when it ended."""

import math
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
from tests.faults.patience import wait_until
from tests.faults.place import PULUMI_LIMIT_S, Place
from tests.faults.timing import Timing

UP = ("up", "--yes", "--skip-preview")
WATCHDOG, VLLM = "startup[.]watchdog", "bin/vllm serve"
# Patience with a busy machine; no bound.
SEE_LIMIT_S, SERVE_LIMIT_S = 240.0, 400.0
# A phase may be over in a moment.
SHORT_POLL_S = 0.05
KEEP_EVERY_S = 2.0


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
        self.served: dict[str, float] = {}  # VM -> end of its start-up, Unix seconds
        self.processes: set[int] = set()  # of the host: engines, and the tops of VMs
        self._began = time.monotonic()
        self._kept_at = -math.inf

    def tell(self, line: str) -> None:
        """One line in the scenario's own log."""
        with self.log.open("a") as log:
            log.write(f"{time.monotonic() - self._began:7.2f} s  {line}\n")

    # -- its user

    def begin_up(self) -> subprocess.Popen[bytes]:
        self.tell("pulumi up")
        up = self.place.start_pulumi(self.stack, *UP)
        self.processes.add(up.pid)
        return up

    def begin_watch(self) -> subprocess.Popen[bytes]:
        """`mayfly up --watch`, once it looks after the session that is there."""
        self.tell("mayfly up --watch")
        watch, log = self.place.start_watch(self.stack)
        looks = f"Watching {self.stack}"
        wait_until(lambda: looks in log.read_text() or watch.poll() is not None, SEE_LIMIT_S)
        assert watch.poll() is None, log.read_text()[-1500:]
        return watch

    def serve(self) -> str:
        """Up, until the endpoint answers and the command has returned; the VM's id."""
        with self.place.starting:
            up = self.begin_up()
            vm_id = self.see_serving()
            self.returned(up)
        return vm_id

    def serve_unwatched(self) -> list[Due]:
        """The same, and the watchdog stopped: idle from then on, and the reaper's to end."""
        with self.place.starting:
            up = self.begin_up()
            self.see_serving()
            self.stop_watchdog()  # before it can end what nobody uses
            self.returned(up)
        return self.idle_due("reaper")

    def returned(self, up: subprocess.Popen[bytes]) -> None:
        """`pulumi up` has ended well. AssertionError where it has not."""
        code = up.wait(PULUMI_LIMIT_S)
        text = self.place.log(self.stack, UP[0]).read_text()
        assert code == 0, f"pulumi up --stack {self.stack}: {code}\n{text[-1500:]}"

    def see_vm(self) -> str:
        """The VM's id, as soon as it is there."""
        wait_until(self.instance, SEE_LIMIT_S)
        return self.vm_id

    def see_phase(self, *phases: str) -> str:
        """Wait until the VM says that it is in one of these."""
        vm_id = self.see_vm()
        said = lambda: self.place.claims(vm_id).get("phase")  # noqa: E731
        return str(
            wait_until(lambda: said() in phases and said(), SERVE_LIMIT_S, poll_s=SHORT_POLL_S)
        )

    def see_serving(self) -> str:
        """Wait until the VM serves, by its own timeline, and note since when; its id."""
        vm_id = self.see_vm()
        wait_until(lambda: self.note_serving(vm_id), SERVE_LIMIT_S, poll_s=SHORT_POLL_S)
        self.tell(f"serving on VM {vm_id}")
        return vm_id

    def note_serving(self, vm_id: str) -> bool:
        """Whether this VM says that it serves; since when is kept for `idle_due`."""
        stages = timeline.parse(self.place.claims(vm_id).get("timeline", ""))
        since = next((s.end for s in stages if s.name == "check" and s.end is not None), None)
        if since is not None:
            self.served[vm_id] = since
        return since is not None

    def next_serving(self) -> bool:
        """Whether another VM of this name than those before serves."""
        found = self.instance()
        vm_id = str(found["id"]) if found else ""
        return vm_id not in self.served and bool(vm_id) and self.note_serving(vm_id)

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

    def idle_due(self, *by: str) -> list[Due]:
        """Sessions that served and were never asked: due when they were idle for their limit."""
        idle_s = self.timing.limits.idle_s
        return [Due(vm_id, at + idle_s, by) for vm_id, at in self.served.items()]

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
        """Copy the VM's console while there is one: it goes with the VM. Note its process."""
        found = self.instance()
        now = time.monotonic()
        if found is None or now - self._kept_at < KEEP_EVERY_S:
            return
        self._kept_at = now
        machines, vm_id = self.place.local.world.machines, str(found["id"])
        if text := machines.serial(vm_id):
            self.log.with_suffix(".serial").write_text(text)
        if machines.running(vm_id):
            self.processes.add(machines.process(vm_id))

    def sleep(self, seconds: float) -> None:
        """Time that passes is the fault here."""
        until = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > until, seconds + 1)

    def stop_watchdog(self) -> None:
        """For good: nobody on the VM ends it any more."""
        self.systemctl("stop", "mayfly-watchdog")

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
