"""What the watchdog can see: vLLM's counters, people and work on SSH, a seed's progress.

A probe is called once a sample and answers True (activity since the last call), False (none) or
raises UnknownError (could not look). The first call only takes the baseline. What it needs
between calls it keeps in `memory`, plain JSON: a restarted watchdog does not start afresh.
Only changes count, never the clock: a wall clock that jumps makes no activity.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from startup import cloud, paths

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting")
COUNTERS = (
    "vllm:request_success_total",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
)
METRIC = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
METRICS_TIMEOUT_S = 5.0

# An open but silent editor server stays below both; an scp at 128 kbit/s is above the second.
BUSY_CPU_FRACTION = 0.05
BUSY_IO_BYTES_PER_S = 16_000.0


class UnknownError(Exception):
    """Neither idle nor active: the probe could not look, and why."""


class NoAnswerError(UnknownError):
    """vLLM itself does not answer, or says that it cannot."""


Probe = Callable[[float], bool]


class Metrics:
    """vLLM's own counters. A poll of /metrics moves none of them."""

    def __init__(self, port: int, memory: dict[str, Any]) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._memory = memory

    def __call__(self, elapsed_s: float) -> bool:
        try:
            text = cloud.fetch(self._url, timeout_s=METRICS_TIMEOUT_S).decode("utf-8", "replace")
        except cloud.CloudError as error:
            raise NoAnswerError(f"vLLM's /metrics: {error}") from error
        sums = parse_metrics(text)
        before = self._memory.get("counters")
        now = [sums[name] for name in COUNTERS]
        self._memory["counters"] = now
        if any(sums[name] > 0 for name in GAUGES):
            return True
        if before is None:
            return False
        # A counter below its last value has started again: what it shows then is new.
        return any(n > b or 0 < n < b for n, b in zip(now, before, strict=True))


def parse_metrics(text: str) -> dict[str, float]:
    """The watched metrics, each summed over its labels. UnknownError: one is not there."""
    sums: dict[str, float] = {}
    for name, value in METRIC.findall(text):
        if name in GAUGES or name in COUNTERS:
            try:
                sums[name] = sums.get(name, 0.0) + float(value)
            except ValueError as error:
                raise UnknownError(f"vLLM's /metrics: {name} is {value!r}") from error
    missing = [name for name in (*GAUGES, *COUNTERS) if name not in sums]
    if missing:
        raise UnknownError(f"vLLM's /metrics has no {', '.join(missing)}")
    return sums


class Terminals:
    """Keys pressed in a login: the kernel moves a terminal's atime when its input is read.

    Not mtime: output alone (a clock, a log that scrolls) is nobody at work.
    """

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory

    def __call__(self, elapsed_s: float) -> bool:
        folder = paths.root() / "dev/pts"
        now = {}
        try:
            for entry in os.scandir(folder):
                if entry.name.isdecimal():
                    now[entry.name] = entry.stat().st_atime
        except FileNotFoundError:
            pass  # a terminal that closed while we looked, or no login ever
        except OSError as error:
            raise UnknownError(f"{folder}: {error}") from error
        before = self._memory.get("terminals")
        self._memory["terminals"] = now
        return before is not None and any(before.get(name) != at for name, at in now.items())


class Processes:
    """Work in progress below sshd without a terminal: exec, scp, sftp.

    What counts is CPU time or bytes since the last look, of each process that descends from sshd
    and is not sshd: so not a forwarded port (sshd itself moves those bytes), a keepalive, a
    tunnel (`ssh -N` starts nothing) or a server that merely stays.
    """

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def __call__(self, elapsed_s: float) -> bool:
        try:
            now = self._working()
        except OSError as error:
            raise UnknownError(f"/proc: {error}") from error
        before = self._memory.get("processes")
        self._memory["processes"] = now
        if before is None:
            return False
        cpu_s = moved = 0.0
        for pid, (cpu, io) in now.items():
            old_cpu, old_io = before.get(pid, (0.0, 0))
            cpu_s += max(cpu - old_cpu, 0.0)
            moved += max(io - old_io, 0)
        span_s = max(elapsed_s, 0.1)
        return cpu_s >= BUSY_CPU_FRACTION * span_s or moved >= BUSY_IO_BYTES_PER_S * span_s

    def _working(self) -> dict[str, tuple[float, int]]:
        """pid:starttime -> (CPU seconds, bytes read and written)."""
        proc = paths.root() / "proc"
        stats = {}
        for entry in os.scandir(proc):
            if entry.name.isdecimal() and (stat := _stat(proc / entry.name)):
                stats[int(entry.name)] = stat
        return {
            f"{pid}:{stat['start']}": (stat["ticks"] * self._tick_s, _io(proc / str(pid)))
            for pid, stat in stats.items()
            if stat["tty"] == 0 and not _is_sshd(stat) and _below_sshd(pid, stats)
        }


def _stat(folder: Path) -> dict[str, Any] | None:
    text = paths.read(folder / "stat")
    comm, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) < 20:
        return None  # it ended while we looked
    return {
        "comm": comm,
        "parent": int(fields[1]),
        "tty": int(fields[4]),
        "ticks": int(fields[11]) + int(fields[12]),
        "start": fields[19],
    }


def _is_sshd(stat: dict[str, Any]) -> bool:
    return str(stat["comm"]).startswith("sshd")  # also sshd-session, OpenSSH 9.8 and newer


def _below_sshd(pid: int, stats: dict[int, dict[str, Any]]) -> bool:
    for _ in range(64):
        parent = stats.get(stats[pid]["parent"])
        if parent is None:
            return False
        pid = stats[pid]["parent"]
        if _is_sshd(parent):
            return True
    return False


def _io(folder: Path) -> int:
    numbers = dict(re.findall(r"^(rchar|wchar): (\d+)$", paths.read(folder / "io"), re.MULTILINE))
    return int(numbers.get("rchar", 0)) + int(numbers.get("wchar", 0))


class Progress:
    """A seed's own number: it grows while bytes move."""

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory

    def __call__(self, elapsed_s: float) -> bool:
        now = paths.read(paths.run_dir() / "progress")
        before = self._memory.get("progress")
        self._memory["progress"] = now
        return before is not None and now != before
