"""How late each layer may be, from the product's own settings; nothing here is typed in twice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from components.idle_reaper import EVERY_S
from local.machine.machines import STOP_GRACE_S
from mayfly.idle import Limits
from reaper.settings import Settings
from startup import watchdog
from tests.conftest import ROOT

MINUTE_S, HOUR_S = 60, 3600
# A GPU VM takes up to two minutes from its delete to its end (mayfly's reaper waits 150 s for it).
GOOGLE_HALT_S = 120.0
# Calls, process starts, and attributes that are rounded to whole seconds.
SPARE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Durations in seconds. The same formulas hold for production's and for the test's.

    every_s: between two ticks of the reaper. tick_s: the longest that one may take: the scheduler
    starts none meanwhile. stale_lock_s: age at which a state lock counts as left behind.
    halt_s: from an order to end until the GPUs are free. spare_s: what nobody promises to the
    second.
    """

    limits: Limits
    every_s: float
    tick_s: float
    stale_lock_s: float
    halt_s: float
    spare_s: float = SPARE_S

    @property
    def watchdog_s(self) -> float:
        """From a verdict that is due on the VM to free GPUs."""
        return watchdog.period_s(self.limits) + self.halt_s + self.spare_s

    @property
    def reaper_s(self) -> float:
        """From a verdict that is due in the function to free GPUs: a tick may just have begun."""
        waits_s = self.every_s * math.ceil(self.tick_s / self.every_s)
        return waits_s + self.halt_s + self.spare_s

    @property
    def silent_s(self) -> float:
        """From a watchdog's last word to free GPUs."""
        return self.limits.heartbeat_s + self.reaper_s

    @property
    def failed_s(self) -> float:
        """From a failure to free GPUs."""
        return self.limits.failed_s + self.watchdog_s

    @property
    def hour_s(self) -> float:
        """Twelve ticks of the reaper that never come."""
        return 12 * self.every_s

    @property
    def google_s(self) -> float:
        """From a deadline to free GPUs."""
        return self.halt_s + self.spare_s

    @property
    def deadline_s(self) -> float:
        """The most that is left of a life when its session ends to be useful."""
        return self.limits.max_life_s - self.limits.idle_s + self.google_s


def limits_of(config: Mapping[str, Any]) -> Limits:
    """A stack's limits; keys as in Pulumi.yaml, without namespace."""
    return Limits(
        idle_s=float(config["idleMinutes"]) * MINUTE_S,
        start_s=float(config["startMinutes"]) * MINUTE_S,
        failed_s=float(config["failedMinutes"]) * MINUTE_S,
        heartbeat_s=float(config["heartbeatMinutes"]) * MINUTE_S,
        max_life_s=float(config["maxHours"]) * HOUR_S,
    )


def shipped() -> dict[str, Any]:
    """Every setting's default."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    return {name: entry["default"] for name, entry in declared.items()}


def production() -> Timing:
    """What holds for a user who sets nothing."""
    return Timing(
        limits=limits_of(shipped()),
        every_s=EVERY_S,
        tick_s=Settings.tick_s,
        stale_lock_s=Settings.stale_lock_s,
        halt_s=GOOGLE_HALT_S,
    )


# Shorter, nothing else: what the sessions and the function of a run are configured with.
SPEEDUP = 60
TICK_S = 40.0
STALE_LOCK_S = 45.0
SHORT = {
    "idleMinutes": "0.3",
    "startMinutes": "4",
    "failedMinutes": "0.25",
    "heartbeatMinutes": "0.4",
    "maxHours": "1",
}

# For those that Google ends: longer than a start on a busy machine takes, or it would never serve.
SHORT_LIFE = {"maxHours": "0.05"}


def in_test(config: Mapping[str, Any]) -> Timing:
    """What holds in a run, for a session whose settings differ from SHORT by these."""
    return Timing(
        limits=limits_of({**SHORT, **config}),
        every_s=EVERY_S / SPEEDUP,
        tick_s=TICK_S,
        stale_lock_s=STALE_LOCK_S,
        halt_s=STOP_GRACE_S,
    )
