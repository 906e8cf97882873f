"""What a plan costs: rate with source and date, range, deadline, and the weights' place to lie."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

from mayfly import pricing
from mayfly.fit import GIB
from mayfly.machines import MACHINES, region_of
from mayfly.plan_ask import Ask
from mayfly.pricing import Rate, StorageRate


def price(ask: Ask) -> dict[str, Any]:
    """Rate with its source, when the session ends in any case, and what all of it comes to.

    USD; null where no source says. Ranges are [lowest, highest] of what the sources say there.
    All of it is for all machines together.
    """
    zone = ask.zone or MACHINES[ask.machine].zones[0]
    rates = tuple(
        replace(rate, usd_per_h=ask.nodes * rate.usd_per_h)
        for rate in (*ask.live_rates, *pricing.shipped())
    )
    rate = pricing.lookup(ask.machine, zone, ask.provisioning, rates)
    found = pricing.known(ask.machine, zone, ask.provisioning, rates)
    by = pricing.for_budget(found, ask.today) if ask.budget_usd is not None else None
    hours = ask.hours
    if by is not None and ask.budget_usd is not None:
        hours = min(hours, ask.budget_usd / by.usd_per_h)
    ends = [found[0].usd_per_h, found[-1].usd_per_h] if found else None
    return {
        "zone": zone,
        "provisioning": ask.provisioning,
        "usd_per_hour": rate.usd_per_h if rate else None,
        "rate_source": rate.source if rate else None,
        "rate_date": rate.date if rate else None,
        "rate_warning": rate.warning(ask.today) or None if rate else None,
        "usd_per_hour_range": ends,
        "deadline_hours": round(hours, 2),
        "total_usd": round(hours * rate.usd_per_h, 2) if rate else None,
        "total_usd_range": [round(hours * end, 2) for end in ends] if ends else None,
        "budget_usd": ask.budget_usd,
        "budget_rate": _told(by) if by is not None else None,
        "weights": _weights(ask, region_of(zone)),
        "other_rates": _other_rates(ask, zone, rates),
    }


def _weights(ask: Ask, region: str) -> dict[str, Any]:
    """What the bucket costs as long as the weights stay, sessions or none."""
    rate = _storage(region)
    gib = ask.profile.size_gb * 1e9 / GIB
    return {
        "gib": round(gib, 1),
        "usd_per_month": round(gib * rate.usd_per_gib_month, 2),
        "rate_source": rate.source,
        "rate_date": rate.date,
        "rate_place": rate.place,
    }


def _storage(region: str) -> StorageRate:
    """The region's own rate, else the nearest thing: another's, which says where it is from."""
    return max(pricing.storage(), key=lambda rate: (rate.place == region, rate.date))


def _other_rates(ask: Ask, zone: str, rates: tuple[Rate, ...]) -> list[dict[str, Any]]:
    """What the same machine costs elsewhere or under another model, cheapest first."""
    here = (zone, region_of(zone))
    rows = [
        rate
        for rate in rates
        if rate.machine == ask.machine
        and not (rate.place in here and rate.provisioning == ask.provisioning)
    ]
    return [_told(rate) for rate in sorted(rows, key=lambda rate: rate.usd_per_h)]


def _told(rate: Rate) -> dict[str, Any]:
    return {
        "usd_per_hour": rate.usd_per_h,
        "place": rate.place,
        "provisioning": rate.provisioning,
        "rate_source": rate.source,
        "rate_date": rate.date,
    }


def lines(planned: dict[str, Any], today: datetime.date) -> list[str]:
    """The same for people."""
    where = f"{planned['provisioning']} in {planned['zone']}"
    hours = f"{planned['deadline_hours']:g} h"
    if planned["usd_per_hour"] is None:
        told = [f"No source prices it as {where}; it ends after {hours} at the latest."]
        told += [f"Known: {_line(other)}" for other in planned["other_rates"][:1]]
        return [*told, _weights_line(planned["weights"])]
    told = [
        f"{planned['usd_per_hour']:.2f} USD/h{_all(planned['nodes'])} as {where} "
        f"({planned['rate_source']}, {planned['rate_date']}); it ends after {hours} at the latest: "
        f"{planned['total_usd']:.2f} USD."
    ]
    low, high = planned["usd_per_hour_range"]
    if low < high:
        least, most = planned["total_usd_range"]
        told.append(f"Sources say {low:.2f} to {high:.2f} for it there: {least:.2f} to {most:.2f}.")
    age = _age_days(planned["rate_date"], today)
    if age > pricing.OLD_AFTER_DAYS:
        told.append(f"That rate is {age} days old; what it is now: mayfly plan --live")
    if planned["budget_rate"]:
        told.append(_budget_line(planned, today))
    others = planned["other_rates"]
    if others and others[0]["usd_per_hour"] < planned["usd_per_hour"]:
        told.append(f"Cheapest known: {_line(others[0])}")
    return [*told, _weights_line(planned["weights"])]


def _all(nodes: int) -> str:
    return f" for all {nodes}" if nodes > 1 else ""


def _budget_line(planned: dict[str, Any], today: datetime.date) -> str:
    by = planned["budget_rate"]
    old = _age_days(by["rate_date"], today) > pricing.OLD_AFTER_DAYS
    none_newer = f"; none is newer than {pricing.OLD_AFTER_DAYS} days" if old else ""
    return (
        f"A budget of {planned['budget_usd']:.2f} USD buys "
        f"{planned['budget_usd'] / by['usd_per_hour']:.1f} h, counted by "
        f"{by['usd_per_hour']:.2f} USD/h ({by['rate_date']}{none_newer})."
    )


def _age_days(day: str, today: datetime.date) -> int:
    return (today - datetime.date.fromisoformat(day)).days


def _line(rate: dict[str, Any]) -> str:
    return (
        f"{rate['usd_per_hour']:.2f} USD/h as {rate['provisioning']} in {rate['place']} "
        f"({rate['rate_date']})."
    )


def _weights_line(weights: dict[str, Any]) -> str:
    return (
        f"Beside it, its weights in the bucket: {weights['gib']:,.0f} GiB, "
        f"{weights['usd_per_month']:.2f} USD a month by {weights['rate_place']}'s price "
        f"({weights['rate_source']}, {weights['rate_date']})."
    )
