"""What an hour costs, and who says so since when: a price without source and date is refused.

Pure: a dated table that ships with mayfly (`rates.yaml`), and a look-up. It knows no price for a
place that its sources do not name, and never takes a neighbour's.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mayfly import names
from mayfly.errors import WrongInputError
from mayfly.machines import region_of

TABLE = Path(__file__).with_name("rates.yaml")
OLD_AFTER_DAYS = 30


def utc_today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Dollars an hour for the whole VM.

    date: the day the source was read, ISO; where only a month is known, its first day.
    place: the zone or region that the source prices; "" for a rate from a stack's own settings.
    live: Google's own price, asked for now; never one of the table's.
    """

    usd_per_h: float
    source: str
    date: str
    place: str
    machine: str
    provisioning: str
    live: bool = False

    def age_days(self, today: datetime.date) -> int:
        return (today - datetime.date.fromisoformat(self.date)).days

    def warning(self, today: datetime.date) -> str:
        """One line when the rate is older than 30 days, else ""."""
        return age_warning(self.usd_per_h, self.source, self.date, today)


def age_warning(usd_per_h: float, source: str, date: str, today: datetime.date) -> str:
    """One line for a rate that is older than 30 days, else "". ValueError: no ISO day."""
    age = (today - datetime.date.fromisoformat(date)).days
    if age <= OLD_AFTER_DAYS:
        return ""
    return f"The rate {usd_per_h:.2f} USD/h is {age} days old ({source}, {date})."


def lookup(
    machine: str, zone: str, provisioning: str, rates: Sequence[Rate] | None = None
) -> Rate | None:
    """The rate of a machine: the zone's own before its region's, then the newest source.

    None when no source prices it there.
    """
    found = known(machine, zone, provisioning, rates)
    return max(found, key=lambda rate: (rate.place == zone, rate.date), default=None)


def known(
    machine: str, zone: str, provisioning: str, rates: Sequence[Rate] | None = None
) -> list[Rate]:
    """All that the sources say of a machine there, cheapest first; they contradict each other."""
    found = [
        rate
        for rate in (shipped() if rates is None else rates)
        if (rate.machine, rate.provisioning) == (machine, provisioning)
        and rate.place in (zone, region_of(zone))
    ]
    return sorted(found, key=lambda rate: rate.usd_per_h)


def for_budget(found: Sequence[Rate], today: datetime.date) -> Rate | None:
    """The rate by which a budget becomes a deadline: too high a one ends a session early, too low
    a one costs more than was allowed.

    Google's live price where there is one; else the highest of those not older than 30 days; else
    the highest of all, however old.
    """
    live = [rate for rate in found if rate.live]
    fresh = [rate for rate in found if rate.age_days(today) <= OLD_AFTER_DAYS]
    return max(live or fresh or found, key=lambda rate: rate.usd_per_h, default=None)


@dataclass(frozen=True, kw_only=True)
class StorageRate:
    """Dollars a GiB and month in a bucket of one region, Standard class."""

    usd_per_gib_month: float
    source: str
    date: str
    place: str


@cache
def storage() -> tuple[StorageRate, ...]:
    """What the sources say that a bucket costs."""
    rows = yaml.safe_load(TABLE.read_text())["storage"]
    return tuple(StorageRate(**row) for row in rows)


@cache
def shipped() -> tuple[Rate, ...]:
    """The table that ships with mayfly."""
    return parse(yaml.safe_load(TABLE.read_text()), TABLE.name)


def parse(raw: Any, source: str) -> tuple[Rate, ...]:
    """Rates from a table's parsed text; WrongInputError names every bad row."""
    rows = raw.get("rates") if isinstance(raw, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise WrongInputError(f"{source}: it needs a list `rates`.")
    problems = [f"row {n}: {what}" for n, row in enumerate(rows, 1) for what in _problems(row)]
    if problems:
        raise WrongInputError(f"{source}: " + "; ".join(problems))
    return tuple(Rate(**{**row, "usd_per_h": float(row["usd_per_h"])}) for row in rows)


def _problems(row: Any) -> list[str]:
    if not isinstance(row, Mapping):
        return [f"{row!r} is a bare number or text: a rate needs source, date, place and model"]
    wanted = [key for key in Rate.__dataclass_fields__ if key != "live"]
    found = [f"no {key}" for key in wanted if not row.get(key)]
    found += [f"unknown key {key!r}" for key in row if key not in wanted]
    price = row.get("usd_per_h")
    if price and not (isinstance(price, int | float) and math.isfinite(price) and price > 0):
        found.append(f"usd_per_h {price!r} is not a price")
    if row.get("date") and not _is_day(row["date"]):
        found.append(f"date {row['date']!r} is not a quoted ISO day")
    if row.get("provisioning") and row["provisioning"] not in names.PROVISIONING:
        found.append(
            f"provisioning {row['provisioning']!r}: one of {', '.join(names.PROVISIONING)}"
        )
    return found


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
