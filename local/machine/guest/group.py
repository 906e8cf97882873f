"""The processes of one life of a service, as its cgroup would hold them."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import spawn
from addresses import Gate
from loop import Lines, Loop
from units import Command, Unit

MACHINE = os.readlink("/proc/self/ns/mnt")
Log = Callable[[Unit, tuple[str, int], str], None]


class Group:
    """around: as spawn.prepare made it for this life."""

    def __init__(self, unit: Unit, around: spawn.Surroundings, loop: Loop, log: Log) -> None:
        self._unit, self._around, self._loop, self._log = unit, around, loop, log
        self._namespaces: set[str] = set()  # the mount namespaces of its processes

    def run(self, command: Command, ended: Callable[[int], None]) -> int:
        """Start a process, whose words go to the journal; `ended` hears its wait status."""
        reader, writer = os.pipe()
        started = spawn.spawn(self._unit, command, self._around, writer)
        os.close(writer)
        pid = started.pid
        with contextlib.suppress(OSError):  # it is over already
            self._namespaces |= {os.readlink(f"/proc/{pid}/ns/mnt")} - {MACHINE}
        if started.listener is not None:
            Gate(self._loop, started.listener, self._around.rules)
        name = self._unit.value("SyslogIdentifier") or os.path.basename(command.argv[0])
        lines = Lines(self._loop, reader, lambda line: self._log(self._unit, (name, pid), line))

        def gone(status: int) -> None:
            lines.drain()
            ended(status)

        self._loop.child(pid, gone)
        return pid

    def pids(self) -> list[int]:
        """They carry its INVOCATION_ID, or cannot leave a mount namespace of its own."""
        marker = f"INVOCATION_ID={self._around.environment['INVOCATION_ID']}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != "1":
                with contextlib.suppress(OSError):
                    inside = os.readlink(entry / "ns/mnt") in self._namespaces
                    if inside or marker in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def clear(self) -> None:
        """Remove what goes with this life."""
        for path in self._around.own:
            shutil.rmtree(path, ignore_errors=True)


def send(pid: int, number: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
