"""Work in progress below sshd without a terminal: exec, scp, sftp; and what an open editor is."""

import os
import re
from pathlib import Path
from typing import Any

from startup import paths
from startup.probes import UnknownError

# A shell that waits, a `tail -f` and a forgotten exec stay below both; an scp at 128 kbit/s is
# above the second.
BUSY_CPU_FRACTION = 0.05
BUSY_IO_BYTES_PER_S = 16_000.0
# An editor's server that was left open is busy all by itself: it walks through /proc for ports to
# forward, as often as a twentieth of its time allows, and its language servers index. Its own
# programs count only by bytes, and only when that is a copy. What it starts (a shell, a notebook's
# kernel) lies elsewhere and counts like any work; keys in its terminals count anyway.
EDITOR = re.compile(r"/\.[a-z-]+[-_]server(-[a-z]+)?/|/JetBrains/RemoteDev/")
EDITOR_IO_BYTES_PER_S = 1_000_000.0
# A process outside any login never gets into one, so it is read once in so many looks, for a
# number may be used again. A node has some thousand processes, and all but a few are the kernel's.
READ_AGAIN = 8


class Processes:
    """A probe (see `startup.probes`).

    What counts is CPU time or bytes since the last look, of each process that descends from sshd
    and is not sshd: so not a forwarded port (sshd itself moves those bytes), a keepalive, a
    tunnel (`ssh -N` starts nothing) or a server that merely stays.
    """

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._others: set[str] = set()  # outside any login
        self._looks = 0

    def __call__(self, elapsed_s: float) -> str:
        try:
            now = self._working()
        except OSError as error:
            raise UnknownError(f"/proc: {error}") from error
        before = self._memory.get("processes")
        self._memory["processes"] = now
        if before is None:
            return ""
        span_s = max(elapsed_s, 0.1)
        cpu_s = moved = copied = most = 0.0
        busiest = ""
        for key, (cpu, io, name) in now.items():
            old_cpu, old_io, _ = before.get(key, (0.0, 0, name))
            spent_s, size = max(cpu - old_cpu, 0.0), max(io - old_io, 0)
            if not name:
                copied += size
                continue
            cpu_s, moved = cpu_s + spent_s, moved + size
            weight = spent_s / BUSY_CPU_FRACTION + size / BUSY_IO_BYTES_PER_S
            if weight > most:
                most, busiest = weight, name
        if cpu_s >= BUSY_CPU_FRACTION * span_s or moved >= BUSY_IO_BYTES_PER_S * span_s:
            return f"{busiest} at work over SSH"
        return "an editor copies files" if copied >= EDITOR_IO_BYTES_PER_S * span_s else ""

    def _working(self) -> dict[str, tuple[float, int, str]]:
        """pid:starttime -> CPU seconds, bytes read and written, name ("": an editor's own)."""
        found = {}
        for pid, stat in self._logins().items():
            if stat["tty"] == 0 and not _is_sshd(stat):
                folder = paths.root() / "proc" / pid
                name = "" if EDITOR.search(_program(folder)) else stat["comm"]
                found[f"{pid}:{stat['start']}"] = stat["ticks"] * self._tick_s, _io(folder), name
        return found

    def _logins(self) -> dict[str, dict[str, Any]]:
        """sshd and all that descends from it."""
        if self._looks % READ_AGAIN == 0:
            self._others.clear()
        self._looks += 1
        proc = paths.root() / "proc"
        there = {name for name in os.listdir(proc) if name.isdecimal()}
        self._others &= there
        stats = {pid: stat for pid in there - self._others if (stat := _stat(f"{proc}/{pid}"))}
        logins = {pid: stat for pid, stat in stats.items() if _below_sshd(pid, stats)}
        self._others |= stats.keys() - logins.keys()
        return logins


def _stat(folder: str) -> dict[str, Any] | None:
    """The few facts wanted of a process; None when it ended while we looked."""
    try:
        with open(f"{folder}/stat", "rb", buffering=0) as file:
            text = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return None
    comm, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split(None, 20)
    if len(fields) < 20:
        return None
    return {
        "comm": comm,
        "parent": fields[1],
        "tty": int(fields[4]),
        "ticks": int(fields[11]) + int(fields[12]),
        "start": fields[19],
    }


def _is_sshd(stat: dict[str, Any]) -> bool:
    return str(stat["comm"]).startswith("sshd")  # also sshd-session, OpenSSH 9.8 and newer


def _below_sshd(pid: str, stats: dict[str, dict[str, Any]]) -> bool:
    """True for sshd too. A parent that is not in `stats` is outside any login."""
    for _ in range(64):
        stat = stats.get(pid)
        if stat is None:
            return False
        if _is_sshd(stat):
            return True
        pid = stat["parent"]
    return False


def _program(folder: Path) -> str:
    try:
        return os.readlink(folder / "exe")
    except OSError:
        return ""  # it ended, or it is the kernel's


def _io(folder: Path) -> int:
    numbers = dict(re.findall(r"^(rchar|wchar): (\d+)$", paths.read(folder / "io"), re.MULTILINE))
    return int(numbers.get("rchar", 0)) + int(numbers.get("wchar", 0))
