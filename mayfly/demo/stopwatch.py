"""What happened when, and the one place that the story is told from."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Stage:
    """One finished stage. start_s and seconds count from the story's start; stages may overlap."""

    name: str
    start_s: float
    seconds: float


class Timeline:
    """Measures stages and tells them as they begin, go on and end. Safe from several threads."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.stages: list[Stage] = []
        self._out = out or sys.stderr
        self._start = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self._start

    def tell(self, line: str) -> None:
        """One line with the time before it."""
        with self._lock:
            print(f"{self.seconds:6.1f} s  {line}", file=self._out, flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is inside. A stage that raises is told as failed, and not recorded."""
        start_s = self.seconds
        self.tell(f"{name} ...")
        try:
            yield
        except BaseException:
            self.tell(f"{name}: FAILED after {self.seconds - start_s:.1f} s")
            raise
        seconds = self.seconds - start_s
        with self._lock:
            self.stages.append(Stage(name, start_s, round(seconds, 2)))
        self.tell(f"{name}: {seconds:.1f} s")

    def chart(self, width: int = 40) -> str:
        """Every stage with its duration and its place in the whole, one a line."""
        total_s = max(self.seconds, 0.001)
        rows = []
        for stage in sorted(self.stages, key=lambda s: s.start_s):
            before = round(stage.start_s / total_s * width)
            bar = "#" * max(1, round(stage.seconds / total_s * width))
            rows.append(f"  {stage.name:<28}{stage.seconds:7.1f} s  {' ' * before}{bar}")
        return "\n".join([*rows, f"  {'in all':<28}{total_s:7.1f} s"])
