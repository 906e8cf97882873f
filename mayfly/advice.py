"""Google's advice on spot capacity: how likely a machine is to be had in a zone, and its price.

Each zone is asked by itself: the API scores one recommendation a request, not each zone in it.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mayfly.cloud import Cloud, CloudError
from mayfly.machines import region_of

AT_ONCE = 8
DAYS = 7
"""Preemptions are told day by day; the last week says more of tomorrow than the month does."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What Google says of a machine in a zone; None where it says nothing.

    obtainability: 0 to 1; 0.7 and more is high. uptime_s: until most such VMs are preempted.
    preemption_rate: share of those that stopped, over the last week. usd_per_h: the spot list
    price of the whole VM, since price_since (RFC 3339). problem: why there is no score.
    """

    zone: str
    obtainability: float | None = None
    uptime_s: float | None = None
    preemption_rate: float | None = None
    usd_per_h: float | None = None
    price_since: str = ""
    problem: str = ""


def ask(cloud: Cloud, machine: str, zones: Iterable[str]) -> list[Advice]:
    """Each zone's advice, the likeliest first. A zone that Google has no answer for says why.

    Raises the first CloudError where no zone has an answer.
    """
    asked = list(zones)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda zone: one(cloud, machine, zone), asked))
    answered = [advice for advice in found if isinstance(advice, Advice)]
    failed = [error for error in found if isinstance(error, CloudError)]
    if failed and not answered:
        raise failed[0]
    answered += [
        Advice(zone=zone, problem=error.message)
        for zone, error in zip(asked, found, strict=True)
        if isinstance(error, CloudError)
    ]
    return sorted(answered, key=lambda advice: -(advice.obtainability or -1.0))


def one(cloud: Cloud, machine: str, zone: str) -> Advice | CloudError:
    """One zone's advice, or why there is none."""
    try:
        score = cloud.compute.capacity_advice(region_of(zone), machine, zone)
        history = cloud.compute.capacity_history(region_of(zone), machine, zone)
    except CloudError as error:
        return error
    return read(zone, score, history)


def read(zone: str, score: dict[str, Any], history: dict[str, Any]) -> Advice:
    """The two answers as one."""
    best = (score.get("recommendations") or [{}])[0].get("scores") or {}
    rates = [float(r.get("preemptionRate") or 0) for r in by_time(history, "preemptionHistory")]
    prices = by_time(history, "priceHistory")
    last = prices[-1] if prices else {}
    return Advice(
        zone=zone,
        obtainability=float(best["obtainability"]) if "obtainability" in best else None,
        uptime_s=seconds(best.get("estimatedUptime")),
        preemption_rate=sum(rates[-DAYS:]) / len(rates[-DAYS:]) if rates else None,
        usd_per_h=usd(last.get("listPrice")),
        price_since=str((last.get("interval") or {}).get("startTime") or ""),
    )


def by_time(history: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    records = history.get(kind) or []
    return sorted(records, key=lambda r: str((r.get("interval") or {}).get("startTime") or ""))


def seconds(duration: object) -> float | None:
    """ "3600s" -> 3600.0."""
    return float(duration[:-1]) if isinstance(duration, str) and duration.endswith("s") else None


def usd(money: Any) -> float | None:
    """Dollars; None for another currency, which nobody here can compare."""
    if not isinstance(money, dict) or money.get("currencyCode", "USD") != "USD":
        return None
    return int(money.get("units") or 0) + int(money.get("nanos") or 0) / 1e9
