"""Machines of one type together: how many hold a model, and what they cost beside others.

Tensor parallelism within a machine, a pipeline stage on each: the fewest that serve are the plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import pricing
from mayfly.fit import GIB, FitError
from mayfly.machines import GPU_MACHINES, GPUS, MACHINES
from mayfly.modes import Choice, Limits
from mayfly.plan_ask import Ask
from mayfly.pricing import Rate
from mayfly.profile import Profile

MOST_NODES = 8
WHOLE = tuple(name for name in GPU_MACHINES if MACHINES[name].gpus == 8)
"""The types that are a host of their own: smaller ones share it, and larger ones there are none."""


@dataclass(frozen=True, kw_only=True)
class Several:
    """The fewest machines of one type that serve a mode, and how."""

    machine: str
    nodes: int
    choice: Choice


def fewest(
    profile: Profile, machine: str, mode: str, limits: Limits | None = None
) -> Several | None:
    """None where MOST_NODES hold it no more than one does."""
    for nodes in range(1, MOST_NODES + 1):
        try:
            choice = profile.choose(machine, mode, limits, nodes)
        except FitError:
            continue
        return Several(machine=machine, nodes=nodes, choice=choice)
    return None


def nearest(profile: Profile, mode: str) -> dict[str, Any]:
    """The fewest machines of any type, the smallest among equals: for a model larger than one."""
    found = [several for name in WHOLE if (several := fewest(profile, name, mode))]
    if not found:
        return _by_size(profile)
    best = min(found, key=lambda several: (several.nodes, _memory_gib(several.machine)))
    return {
        "machine": best.machine,
        "machines": best.nodes,
        "max_context": best.choice.context,
        "command": f"mayfly plan {profile.name} --machine {best.machine} --nodes {best.nodes} "
        f"--mode {mode}",
    }


def _by_size(profile: Profile) -> dict[str, Any]:
    """Where no config can be read: a tenth of the memory stays free for the engine."""
    weights_gib = profile.size_gb * 1e9 / GIB
    needed = {name: math.ceil(weights_gib / (0.9 * _memory_gib(name))) for name in WHOLE}
    best = min(needed, key=lambda name: (needed[name], _memory_gib(name)))
    others = ", ".join(f"{count} x {name}" for name, count in needed.items())
    return {
        "machine": best,
        "machines": needed[best],
        "max_context": None,
        "command": None,
        "note": f"{weights_gib:,.0f} GiB of weights need at least {others}.",
    }


def _memory_gib(machine: str) -> float:
    return MACHINES[machine].gpus * GPUS[MACHINES[machine].gpu].gib


def beside(ask: Ask) -> list[dict[str, Any]]:
    """The other types in the mode that is asked for, the cheapest first, unpriced ones last.

    USD an hour for all machines together in the zone of the plan, where a source prices the type
    there; null elsewhere.
    """
    zone = ask.zone or MACHINES[ask.machine].zones[0]
    rates = (*ask.live_rates, *pricing.shipped())
    others = (fewest(ask.profile, machine, ask.mode) for machine in WHOLE if machine != ask.machine)
    rows = [_row(several, zone, ask.provisioning, rates) for several in others if several]
    return sorted(rows, key=lambda row: row["usd_per_hour"] or math.inf)


def _row(several: Several, zone: str, provisioning: str, rates: Sequence[Rate]) -> dict[str, Any]:
    rate = pricing.lookup(several.machine, zone, provisioning, rates)
    choice = several.choice
    return {
        "machine": several.machine,
        "nodes": several.nodes,
        "max_context": choice.context,
        "kv_tokens": choice.fit.kv_tokens,
        "usd_per_hour": round(several.nodes * rate.usd_per_h, 2) if rate else None,
        "rate_source": rate.source if rate else None,
        "rate_date": rate.date if rate else None,
    }


def lines(rows: list[dict[str, Any]], zone: str) -> list[str]:
    """The same for people."""
    return [
        f"Or {row['nodes']} x {row['machine']}: "
        + (f"{row['usd_per_hour']:.2f} USD/h" if row["usd_per_hour"] else f"no price in {zone}")
        + f", {row['max_context']:,} tokens of context, in all {row['kv_tokens']:,}"
        for row in rows
    ]
