"""The rungs: every machine, zone and provisioning model that may serve a profile, best first."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mayfly import pricing
from mayfly.config import KEYS
from mayfly.fit import FitError
from mayfly.machines import MACHINES, region_of
from mayfly.plan_ask import DEFAULT_HOURS, DEFAULT_MODE
from mayfly.pricing import Rate, utc_today
from mayfly.profile import Profile

EGRESS_USD_PER_GB = 0.02
"""Between regions, for the weights that a start pulls. From memory: no source was found."""

ATTEMPT_USD = 1.0
"""What a failed attempt counts for: a minute of somebody who waits. A choice, not a price."""

UNKNOWN_OBTAINABILITY = 0.5
"""For a place of which nobody says how likely it has room, beside places of which somebody does."""

LEAST_OBTAINABILITY = 0.001
"""A zero is a forecast too: such a place is asked last, not never."""

LEAST_HOURS = float(str(KEYS["startMinutes"])) / 60
"""A life that a start may use up serves nobody."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine in a zone under a provisioning model."""

    machine: str
    zone: str
    provisioning: str

    @property
    def region(self) -> str:
        return region_of(self.zone)

    def __str__(self) -> str:
        return f"{self.machine} {self.provisioning} {self.zone}"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A place with its price. hours: how long the money and the wish let it live.

    usd: rate x hours + egress. index: what the ladder is sorted by, see `rank`.
    obtainability: 0 to 1; None where nobody says.
    """

    place: Place
    rate: Rate
    hours: float
    egress_usd: float
    obtainability: float | None = None

    @property
    def usd(self) -> float:
        return self.rate.usd_per_h * self.hours + self.egress_usd

    @property
    def index(self) -> float:
        chance = UNKNOWN_OBTAINABILITY if self.obtainability is None else self.obtainability
        return self.usd + ATTEMPT_USD / max(chance, LEAST_OBTAINABILITY)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A place that is no rung, and why not."""

    place: Place
    why: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the user allows.

    machines, zones: empty = all. regions: those with a subnet. weights_region: where the bucket is.
    hours: the longest life. obtainability: (machine, zone) -> 0 to 1, for spot, as Google says.
    """

    profile: Profile
    regions: Sequence[str]
    weights_region: str
    mode: str = DEFAULT_MODE
    machines: Sequence[str] = ()
    zones: Sequence[str] = ()
    provisioning: Sequence[str] = ("spot",)
    hours: float = DEFAULT_HOURS
    budget_usd: float | None = None
    max_hourly_usd: float | None = None
    obtainability: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rates: Sequence[Rate] | None = None
    today: datetime.date = field(default_factory=utc_today)


def rungs(question: Question) -> tuple[tuple[Rung, ...], tuple[LeftOut, ...]]:
    """The ladder, best first, and the places that were left out."""
    kept: list[Rung] = []
    left: list[LeftOut] = []
    for place in _places(question):
        found = _rung(question, place)
        if isinstance(found, Rung):
            kept.append(found)
        else:
            left.append(found)
    return rank(kept), tuple(left)


def rank(found: Sequence[Rung]) -> tuple[Rung, ...]:
    """By usd + ATTEMPT_USD / obtainability.

    Whoever takes the first success pays least, in money and failed attempts together, in exactly
    this order: swapping two neighbours changes the expected cost by the difference of the two.
    """
    return tuple(sorted(found, key=lambda r: (r.index, str(r.place))))


def _places(question: Question) -> Iterator[Place]:
    for machine in question.profile.machines:
        if question.machines and machine not in question.machines:
            continue
        kind = MACHINES[machine]
        for zone in kind.zones:
            if question.zones and zone not in question.zones:
                continue
            for model in question.provisioning:
                if model in kind.provisioning:
                    yield Place(machine=machine, zone=zone, provisioning=model)


def _rung(question: Question, place: Place) -> Rung | LeftOut:
    if place.region not in question.regions:
        return LeftOut(place=place, why=f"the foundation has no subnet in {place.region}")
    try:
        question.profile.choose(place.machine, question.mode)
    except FitError as error:
        return LeftOut(place=place, why=f"does not fit: {error}")
    rate = pricing.lookup(place.machine, place.zone, place.provisioning, question.rates)
    if rate is None:
        return LeftOut(place=place, why="no source prices it")
    most = question.max_hourly_usd
    if most is not None and rate.usd_per_h > most:
        return LeftOut(place=place, why=f"{rate.usd_per_h:.2f} USD/h is above --max-hourly")
    away = place.region != question.weights_region
    egress_usd = question.profile.size_gb * EGRESS_USD_PER_GB if away else 0.0
    hours = question.hours
    if question.budget_usd is not None:
        known = pricing.known(place.machine, place.zone, place.provisioning, question.rates)
        by = pricing.for_budget(known, question.today) or rate
        hours = min(hours, max(0.0, question.budget_usd - egress_usd) / by.usd_per_h)
        if hours < LEAST_HOURS:
            return LeftOut(place=place, why=f"--budget buys {hours * 60:.0f} min of it")
    chance = question.obtainability.get((place.machine, place.zone))
    return Rung(
        place=place,
        rate=rate,
        hours=hours,
        egress_usd=egress_usd,
        obtainability=chance if place.provisioning == "spot" else None,
    )
