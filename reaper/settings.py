"""What the foundation told the function, from its environment; what it is sent is never read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mayfly.errors import WrongInputError
from mayfly.locks import LONGEST_UP_S

REQUIRED = ("MAYFLY_PROJECT", "MAYFLY_STATE_BUCKET", "MAYFLY_FOUNDATION_STACK")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """tick_s: seconds one run may take. Below the scheduler's 300, or a long destroy would hold the
    only instance when the next look is due, and so delay a delete.

    stale_lock_s: age in seconds from which a state lock counts as left behind; the longest `up`.
    """

    project: str
    state_bucket: str
    foundation_stack: str
    tick_s: float = 270
    stale_lock_s: float = LONGEST_UP_S

    @property
    def grace_s(self) -> float:
        """How long a destroy that must stop may take for that: 13.5 s of the usual run."""
        return self.tick_s / 20

    @property
    def least_destroy_s(self) -> float:
        """The shortest time that a destroy is worth starting in: 13.5 s of the usual run."""
        return self.tick_s / 20

    @property
    def look_s(self) -> float:
        """How long into a run VMs are asked what they say of themselves: 90 s of the usual run.

        Where Compute answers too slowly for that, the rest are judged by its list alone.
        """
        return self.tick_s / 3

    @property
    def gone_within_s(self) -> float:
        """How long a run waits for the VMs it ended; a GPU VM takes up to two minutes."""
        return min(120.0, self.tick_s / 2)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read MAYFLY_*; WrongInputError names every variable that is missing or wrong."""
    problems = [f"{name} is not set" for name in REQUIRED if not environment.get(name)]
    tick_s = _seconds(environment, "MAYFLY_TICK_S", Settings.tick_s, problems)
    stale_lock_s = _seconds(environment, "MAYFLY_STALE_LOCK_S", Settings.stale_lock_s, problems)
    if problems:
        raise WrongInputError("The reaper's environment: " + "; ".join(problems))
    project, bucket, foundation = (environment[name] for name in REQUIRED)
    return Settings(
        project=project,
        state_bucket=bucket,
        foundation_stack=foundation,
        tick_s=tick_s,
        stale_lock_s=stale_lock_s,
    )


def _seconds(
    environment: Mapping[str, str], name: str, default: float, problems: list[str]
) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        problems.append(f"{name} is {text!r}, not a number of seconds")
    return value
