"""Capacity that comes and goes, made for bench/ladder.py: nobody has published a recording of it.

Each machine in each zone has room or has none, by turns of exponential length. What an attempt is
told comes in Google's own form and goes through the product's own `classify`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mayfly.ladder.rungs import Place

HINT_IS_RIGHT = 0.9
"""Of the zones that Google names, how many still have room. Assumed."""


@dataclass(frozen=True, kw_only=True)
class Regime:
    """How capacity behaves. share: of the time that a place has room; minutes: a turn of room.

    by_region: another share for some regions. only: how many places, drawn anew each time, have
    room at all; 0 = all. no_quota: regions where the project has none.
    """

    name: str
    says: str
    share: float
    minutes: float = 20.0
    by_region: Mapping[str, float] = field(default_factory=dict)
    only: int = 0
    no_quota: frozenset[str] = frozenset()

    def share_of(self, place: Place) -> float:
        return self.by_region.get(place.region, self.share)


REGIMES = (
    Regime(name="plenty", says="every place has room 80 % of the time", share=0.8),
    Regime(name="tight", says="30 %, in turns of 20 minutes", share=0.3),
    Regime(name="scarce", says="5 %, in turns of 10 minutes", share=0.05, minutes=10),
    Regime(
        name="cheap is dry",
        says="2 % where it is cheapest (europe-north1, us-east5), 40 % elsewhere",
        share=0.4,
        by_region={"europe-north1": 0.02, "us-east5": 0.02},
    ),
    Regime(
        name="no quota",
        says="30 %, and no GPU quota in europe-north1, us-east5 and us-east4",
        share=0.3,
        no_quota=frozenset({"europe-north1", "us-east5", "us-east4"}),
    ),
    Regime(name="a needle", says="one place of all, drawn anew each time", share=0.9, only=1),
)


@dataclass(frozen=True)
class World:
    """One run of a regime over some hours; the same trial gives the same world."""

    regime: Regime
    places: tuple[Place, ...]
    trial: int
    hours: float = 4.0

    def _draws(self, *words: object) -> random.Random:
        return random.Random("/".join(map(str, (self.regime.name, self.trial, *words))))

    @cached_property
    def _turns(self) -> dict[Place, list[tuple[float, float]]]:
        """When each place has room: (from, to) in minutes."""
        chosen = set(self.places)
        if self.regime.only:
            chosen = set(self._draws("only").sample(self.places, self.regime.only))
        return {p: self._turns_of(p) if p in chosen else [] for p in self.places}

    def _turns_of(self, place: Place) -> list[tuple[float, float]]:
        draws, share = self._draws(place), self.regime.share_of(place)
        without = self.regime.minutes * (1 - share) / share
        at = 0.0 if draws.random() < share else draws.expovariate(1 / without)
        turns = []
        while at < self.hours * 60:
            end = at + draws.expovariate(1 / self.regime.minutes)
            turns.append((at, end))
            at = end + draws.expovariate(1 / without)
        return turns

    def has_room(self, place: Place, minute: float) -> bool:
        return any(begin <= minute < end for begin, end in self._turns[place])

    def ask(self, place: Place, minute: float) -> dict[str, Any] | None:
        """What the insert's operation says; None: the VM is there."""
        if place.region in self.regime.no_quota:
            text = f"Quota 'PREEMPTIBLE_GPUS' exceeded.  Limit: 0.0 in region {place.region}."
            return operation("QUOTA_EXCEEDED", text, {})
        if self.has_room(place, minute):
            return None
        named = ",".join(self._named(place, minute))
        code = "ZONE_RESOURCE_POOL_EXHAUSTED" + ("_WITH_DETAILS" if named else "")
        return operation(code, "no room", {"zonesAvailable": named} if named else {})

    def _named(self, place: Place, minute: float) -> list[str]:
        """Zones of the same region: those with room, and now and then one that had it."""
        draws = self._draws("hint", place, round(minute))
        return [
            other.zone
            for other in self.places
            if (other.machine, other.region) == (place.machine, place.region)
            and other != place
            and self.has_room(other, minute) == (draws.random() < HINT_IS_RIGHT)
        ][:2]

    def advice(self, place: Place) -> float:
        """What Google's advice might say: the truth about the long run, give or take a third."""
        share = 0.0 if not self._turns[place] else self.regime.share_of(place)
        return min(1.0, share * self._draws("advice", place).uniform(0.67, 1.33))


def operation(code: str, message: str, metadatas: dict[str, str]) -> dict[str, Any]:
    """An operation that failed, as Google shows it."""
    details = [{"errorInfo": {"reason": "resource_availability", "metadatas": metadatas}}]
    entry = {"code": code, "message": message, "errorDetails": details}
    return {"status": "DONE", "error": {"errors": [entry]}}
