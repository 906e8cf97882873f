"""Unix cron expressions, as Cloud Scheduler reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from local.rest.words import words

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12))
MONTHS = words("jan feb mar apr may jun jul aug sep oct nov dec")
DAYS = words("sun mon tue wed thu fri sat")
PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")
HORIZON_DAYS = 366 * 5  # 29 February comes within this


@dataclass(frozen=True)
class Cron:
    """When a job is due, in `zone`'s wall time. either_day: one of both is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    zone: ZoneInfo

    def next_after(self, unix_s: float) -> float:
        """The first due time after `unix_s`, on a whole minute; ValueError when there is none."""
        moment = datetime.fromtimestamp(unix_s, UTC).replace(second=0, microsecond=0)
        moment += timedelta(minutes=1)
        end = moment + timedelta(days=HORIZON_DAYS)
        while moment < end:
            wall = moment.astimezone(self.zone)
            if not self._on_day(wall):
                midnight = wall.replace(hour=0, minute=0) + timedelta(days=1)
                moment = max(midnight.astimezone(UTC), moment + timedelta(minutes=1))
            elif wall.hour in self.hours and wall.minute in self.minutes:
                return moment.timestamp()
            else:
                moment += timedelta(minutes=1)
        raise ValueError("the schedule never comes")

    def _on_day(self, wall: datetime) -> bool:
        if wall.month not in self.months:
            return False
        in_month, in_week = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (in_month or in_week) if self.either_day else (in_month and in_week)


def parse(text: str, zone: ZoneInfo) -> Cron:
    """`*/5 * * * *`; ValueError says which field is wrong."""
    words = text.split()
    if len(words) != 5:
        raise ValueError(f"{len(words)} fields instead of 5")
    minutes, hours, days, months = (
        _field(word, name, low, high, MONTHS if name == "month" else [], 1)
        for word, (name, low, high) in zip(words, FIELDS, strict=False)
    )
    weekdays = frozenset(d % 7 for d in _field(words[4], "day of week", 0, 7, DAYS, 0))
    either = not words[2].startswith("*") and not words[4].startswith("*")
    return Cron(minutes, hours, days, months, weekdays, either, zone)


def _field(
    word: str, name: str, low: int, high: int, names: list[str], base: int
) -> frozenset[int]:
    values: set[int] = set()
    for part in word.split(","):
        found = PART.fullmatch(part)
        if not found:
            raise ValueError(f"{name} is {part!r}")
        first, last, step = found.groups()
        if first == "*":
            start, stop = low, high
        else:
            start = _number(first, name, names, base)
            stop = _number(last, name, names, base) if last else (high if step else start)
        if not low <= start <= stop <= high or step == "0":
            raise ValueError(f"{name} is {part!r}")
        values.update(range(start, stop + 1, int(step or 1)))
    return frozenset(values)


def _number(text: str, name: str, names: list[str], base: int) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + base
    if not text.isdigit():
        raise ValueError(f"{name} is {text!r}")
    return int(text)
