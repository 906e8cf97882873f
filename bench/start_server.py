"""A vLLM process under a clock, and shards that arrive while it starts. For bench/start.py."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

# The engine's own words (vLLM 0.24.0): when they come, and the figure in them.
MARKS = {
    "engine": r"\(EngineCore",
    "worker": r"\(Worker",
    "load_begins": r"Starting to load model",
    "weights": r"Loading weights took ([\d.]+) s",
    "model": r"Model loading took [\d.]+ GiB memory and ([\d.]+) s",
    "compiled": r"torch\.compile took ([\d.]+) s",
    "graphs": r"Graph capturing finished in ([\d.]+) s",
    "engine_ready": r"init engine \(.*?\) took ([\d.]+) s",
    "listening": r"Application startup complete",
    "shards_waited": r"all groups loaded: waited ([\d.]+) s",
    "shards_loaded": r"all groups loaded: .* loaded ([\d.]+) s",
}


class Arrival:
    """Moves the shards aside, then back one by one, as a pull would let them appear."""

    def __init__(self, root: Path, plan: dict[str, float]) -> None:
        self._to = root / "mnt/mayfly/weights"
        self._from = root / "mnt/mayfly/arriving"
        self._from.mkdir(exist_ok=True)
        self._plan = plan
        self.last_s: float | None = None
        self._shards = sorted(path.name for path in self._to.glob("*.safetensors"))
        for name in self._shards:
            (self._to / name).rename(self._from / name)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        sizes = [(self._from / name).stat().st_size for name in self._shards]
        moved = 0
        for name, size in zip(self._shards, sizes, strict=True):
            moved += size
            due_s = self._plan["after_s"] + self._plan["over_s"] * moved / sum(sizes)
            time.sleep(max(0.0, began + due_s - time.monotonic()))
            (self._from / name).rename(self._to / name)
        self.last_s = round(time.monotonic() - began, 2)

    def restore(self) -> None:
        """All shards in their place, whatever happened."""
        self._thread.join(timeout=self._plan["after_s"] + self._plan["over_s"] + 30)
        for path in list(self._from.glob("*.safetensors")):
            path.rename(self._to / path.name)


class Server:
    """One vLLM with all its processes; its log is read as it comes."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        """env: also says where the unit's working directory is."""
        self.marks: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.last: list[str] = []
        self._log = log.open("w")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=Path(env["MAYFLY_ROOT"]) / "opt/mayfly",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def elapsed_s(self) -> float:
        return round(time.monotonic() - self.began, 2)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            at = self.elapsed_s()
            self._log.write(f"{at:8.2f} {line}")
            self._log.flush()
            self.marks.setdefault("first_line", at)
            self.last = [*self.last[-7:], line.rstrip()]
            for name, pattern in MARKS.items():
                if name not in self.marks and (hit := re.search(pattern, line)):
                    self.marks[name] = at
                    if hit.groups():
                        self.figures[f"{name}_took_s"] = float(hit.group(1))

    def wait_mark(self, mark: str, limit_s: float) -> bool:
        while self.elapsed_s() < limit_s and self.process.poll() is None:
            if mark in self.marks:
                return True
            time.sleep(0.1)
        return False

    def wait_healthy(self, port: int, limit_s: float) -> bool:
        while self.elapsed_s() < limit_s and self.process.poll() is None:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/health"
                if urllib.request.urlopen(url, timeout=2).status == 200:
                    self.marks["healthy"] = self.elapsed_s()
                    return True
            time.sleep(0.1)
        return False

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=5)
        self._log.close()
