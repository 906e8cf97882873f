"""What the watchdog can see: vLLM's counters, people and work on SSH, a seed's progress.

A probe is called once a sample. It answers what was at work since the last call, in a few words,
or "" for nothing; UnknownError: it could not look. The first call only takes the baseline. What it
needs between calls it keeps in `memory`, plain JSON: a restarted watchdog does not start afresh.
Only changes count, never the clock: a wall clock that jumps makes no activity.
"""

import os
import re
from collections.abc import Callable
from typing import Any

from startup import cloud, paths

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting")
TOKENS = "vllm:generation_tokens_total"
COUNTERS = ("vllm:request_success_total", TOKENS, "vllm:prompt_tokens_total")
METRIC = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
METRICS_TIMEOUT_S = 5.0


class UnknownError(Exception):
    """Neither idle nor active: the probe could not look, and why."""


class NoAnswerError(UnknownError):
    """vLLM itself does not answer, or says that it cannot."""


Probe = Callable[[float], str]


class Metrics:
    """vLLM's own counters. A poll of /metrics moves none of them."""

    def __init__(self, port: int, memory: dict[str, Any]) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._memory = memory

    def __call__(self, elapsed_s: float) -> str:
        self._memory["load"] = None
        try:
            text = cloud.fetch(self._url, timeout_s=METRICS_TIMEOUT_S).decode("utf-8", "replace")
        except cloud.CloudError as error:
            raise NoAnswerError(f"vLLM's /metrics: {error}") from error
        sums = parse_metrics(text)
        before = self._memory.get("counters")
        now = [sums[name] for name in COUNTERS]
        self._memory["counters"] = now
        running, waiting = (sums[name] for name in GAUGES)
        made = grown(before, now, COUNTERS.index(TOKENS))
        self._memory["load"] = {
            "tok_s": round(made / elapsed_s, 1) if elapsed_s > 0 else None,
            "running": round(running),
            "waiting": round(waiting),
        }
        if running > 0 or waiting > 0:
            return f"{running:.0f} requests running, {waiting:.0f} waiting"
        # A counter below its last value has started again: what it shows then is new.
        moved = before and any(n > b or 0 < n < b for n, b in zip(now, before, strict=True))
        return "a request was served" if moved else ""


def grown(before: list[float] | None, now: list[float], which: int) -> float:
    """How much a counter has grown; one that has started again shows only what is new."""
    if before is None:
        return 0.0
    last, new = before[which], now[which]
    return new - last if new >= last else new


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

    Not mtime: output alone (a clock, a log that scrolls) is nobody at work. Nor is a terminal
    that opens: a client that connects again all night presses no key.
    """

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory

    def __call__(self, elapsed_s: float) -> str:
        folder = paths.root() / "dev/pts"
        before: dict[str, float] | None = self._memory.get("terminals")
        now: dict[str, float] = {}
        used = ""
        try:
            for entry in os.scandir(folder):
                if not entry.name.isdecimal() or not (times := _times(entry)):
                    continue
                read_at, opened_at = times
                # Numbers are used again; sshd's chown marks the moment of the opening.
                key = f"{entry.name}:{opened_at}"
                now[key] = read_at
                last = (before or {}).get(key)
                if read_at > opened_at + 1 if last is None else read_at != last:
                    used = f"keys pressed on pts/{entry.name}"
        except FileNotFoundError:
            pass  # no login ever
        except OSError as error:
            raise UnknownError(f"{folder}: {error}") from error
        self._memory["terminals"] = now
        return used if before is not None else ""


def _times(entry: os.DirEntry[str]) -> tuple[float, float] | None:
    """(atime, ctime); None for a terminal that closed while we looked."""
    try:
        stat = entry.stat()
    except FileNotFoundError:
        return None
    return stat.st_atime, stat.st_ctime


class Progress:
    """A seed's own number: it grows while bytes move."""

    def __init__(self, memory: dict[str, Any]) -> None:
        self._memory = memory

    def __call__(self, elapsed_s: float) -> str:
        now = paths.read(paths.run_dir() / "progress")
        before = self._memory.get("progress")
        self._memory["progress"] = now
        return "bytes arrive" if before is not None and now != before else ""
