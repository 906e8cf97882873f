"""`mayfly capacity`: where a machine is likely to be had now, and at what spot price."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mayfly import advice, pricing, profile
from mayfly.advice import Advice
from mayfly.commands.plan import chosen, one
from mayfly.commands.quota import open_project, table
from mayfly.config import DEFAULT_PROFILE
from mayfly.errors import RefusedError
from mayfly.machines import MachineType
from mayfly.problems import NOTHING_DONE
from mayfly.quota import regions

HIGH = 0.7
UNKNOWN = "?"


@dataclass(frozen=True)
class Row:
    """A zone's advice beside the price that our own table has for it."""

    advice: Advice
    rate: pricing.Rate | None


def run(name: str, *, machine: str, region: str, as_json: bool) -> None:
    """Print each zone's obtainability, preemptions and spot prices, the likeliest first.

    RefusedError where Google sees no chance in any zone that it has a score for.
    """
    loaded = profile.load(name or DEFAULT_PROFILE)
    wanted = chosen("machine", machine or loaded.default_machine)
    if region:
        one("region", region, regions(wanted))
    zones = [zone for zone in wanted.zones if zone.startswith(f"{region}-" if region else "")]
    cloud = open_project()
    found = advice.ask(cloud, wanted.name, zones)
    rows = [Row(a, pricing.lookup(wanted.name, a.zone, "spot")) for a in found]
    if as_json:
        listed = [as_dict(row) for row in rows]
        print(
            json.dumps(
                {"project": cloud.project, "machine": wanted.name, "zones": listed}, indent=2
            )
        )
    else:
        show(wanted, rows)
    scores = [a.obtainability for a in found if a.obtainability is not None]
    if scores and max(scores) <= 0:
        raise RefusedError(
            f"Google sees no chance for a spot {wanted.name} in any of {len(scores)} zones now.",
            NOTHING_DONE,
            "Try: the same command later, or another machine (mayfly plan lists those that fit)",
        )


def as_dict(row: Row) -> dict[str, Any]:
    return asdict(row.advice) | {
        "table_usd_per_h": row.rate.usd_per_h if row.rate else None,
        "table_source": row.rate.source if row.rate else None,
        "table_date": row.rate.date if row.rate else None,
    }


def show(machine: MachineType, rows: list[Row]) -> None:
    columns = ("zone", "obtainability", "stays up", "preempted", "spot USD/h", "since", "our table")
    table(*columns)(cells(row) for row in rows)
    print(
        f"{machine.name} as spot, by Google's own advice: 0 to 1, {HIGH} and more is high. "
        "Preempted: of those that stopped in the last week."
    )
    for row in rows:
        if row.advice.problem:
            print(f"{row.advice.zone}: no answer: {row.advice.problem}")


def cells(row: Row) -> tuple[str, ...]:
    a, rate = row.advice, row.rate
    return (
        a.zone,
        UNKNOWN if a.obtainability is None else f"{a.obtainability:.2f}",
        UNKNOWN if a.uptime_s is None else f"{a.uptime_s / 3600:.1f} h",
        UNKNOWN if a.preemption_rate is None else f"{a.preemption_rate:.0%}",
        UNKNOWN if a.usd_per_h is None else f"{a.usd_per_h:.2f}",
        a.price_since[:10] or UNKNOWN,
        f"{rate.usd_per_h:.2f} ({rate.date})" if rate else UNKNOWN,
    )
