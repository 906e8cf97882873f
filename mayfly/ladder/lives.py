"""A session that outlives its VMs: what each has used of what the session was given. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mayfly.ladder.rungs import LEAST_HOURS, Place, Rung

Sight = Literal["lives", "taken", "ended", "unknown"]
"""What a look at the session's VM saw: it is there; Google took it (preempted, its host broke);
it ended in any other way (idle, deadline, `mayfly down`); or nobody can tell now."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One VM of a session. Unix seconds; ended_at: None while it lives."""

    place: Place
    began_at: float
    usd_per_h: float
    egress_usd: float = 0.0
    ended_at: float | None = None

    def usd(self, now: float) -> float:
        until = now if self.ended_at is None else self.ended_at
        return self.egress_usd + self.usd_per_h * max(0.0, until - self.began_at) / 3600


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a session is given once, however many VMs it takes.

    hours: from the creation of its first VM. budget_usd: None = no limit.
    """

    hours: float
    budget_usd: float | None = None

    def hours_left(self, lives: Sequence[Life], now: float) -> float:
        began_at = min((life.began_at for life in lives), default=now)
        return max(0.0, self.hours - max(0.0, now - began_at) / 3600)

    def budget_left(self, lives: Sequence[Life], now: float) -> float | None:
        if self.budget_usd is None:
            return None
        return max(0.0, self.budget_usd - sum(life.usd(now) for life in lives))

    def hours_for(self, rung: Rung, lives: Sequence[Life], now: float) -> float:
        """How long a VM on this rung may live, if it is made now; 0: not worth a start.

        A first VM gets what its rung says; a later one never the time or money of an earlier one.
        """
        hours = min(rung.hours, self.hours_left(lives, now))
        budget_usd = self.budget_left(lives, now)
        if budget_usd is not None:
            hours = min(hours, max(0.0, budget_usd - rung.egress_usd) / rung.rate.usd_per_h)
        return hours if not lives or hours >= LEAST_HOURS else 0.0


@dataclass(frozen=True)
class Stay:
    """Look again later."""


@dataclass(frozen=True)
class Again:
    """Bring the session up again, within this. budget_usd: None = no limit."""

    hours: float
    budget_usd: float | None


@dataclass(frozen=True)
class Over:
    """The session has had its time. refused: it ends before somebody wanted it to."""

    why: str
    refused: bool = False


def after(sight: Sight, grant: Grant, lives: Sequence[Life], now: float) -> Stay | Again | Over:
    """What to do after a look at the session's VM, the last of its lives."""
    if sight == "ended":
        return Over("its VM has ended, and Google did not take it")
    hours, budget_usd = grant.hours_left(lives, now), grant.budget_left(lives, now)
    if sight == "unknown" and not hours:
        return Over("its time is over")
    if sight != "taken":
        return Stay()
    if hours < LEAST_HOURS:
        return Over(f"Google took its VM, and {hours * 60:.0f} min of its time are left", True)
    if budget_usd == 0:
        return Over("Google took its VM, and nothing of its budget is left", True)
    return Again(hours, budget_usd)


def elsewhere(found: Sequence[Rung], place: Place) -> tuple[Rung, ...]:
    """The same ladder with the place that was just taken away at its end."""
    return tuple(sorted(found, key=lambda rung: rung.place == place))
