"""Time, and how much of a run is left of it."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clock:
    """Starts when it is made. limit_s: how long the run may take."""

    limit_s: float
    _started: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def left_s(self) -> float:
        """Seconds left of the run; below 0 when it is over."""
        return self._started + self.limit_s - time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let some time pass."""
        time.sleep(seconds)
