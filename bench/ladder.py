"""Attempts and minutes to a VM: the ladder against simpler ways, on made patterns of capacity.

    python bench/ladder.py --out docs/results/ladder.md

Needs no cloud and measures nothing: the product's own ranking, classification and steps walk
through worlds in which capacity comes and goes: random ones (bench/ladder_world.py) and the local
cloud's own patterns (bench/ladder_patterns.py). The same trials give the same page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a program, as well as a module

from bench.ladder_patterns import Played, played  # noqa: E402
from bench.ladder_world import HINT_IS_RIGHT, REGIMES, Regime, World  # noqa: E402
from mayfly import profile  # noqa: E402
from mayfly.capacity import Verdict, classify  # noqa: E402
from mayfly.ladder.rungs import EGRESS_USD_PER_GB, Question, Rung, rank, rungs  # noqa: E402
from mayfly.ladder.walk import Attempt, Done, Ladder, Try, next_step  # noqa: E402
from mayfly.machines import ANY, REGIONS  # noqa: E402

PROFILE = "kimi-k2.5"
HOME = "us-central1"
MACHINE = "a2-ultragpu-8g"
TRIALS = 100
RETRY_FOR_S = 2 * 3600.0
FAILED_S = 60.0
"""A failed `up`, engine and operation together. Assumed; the local cloud needs about 15 s."""


@dataclass(frozen=True)
class Way:
    """How somebody looks for a VM. hints, others: whether Google's zones and other rungs count."""

    name: str
    hints: bool = True
    others: bool = True
    advice: bool = False


WAYS = (
    Way("ladder with advice", advice=True),
    Way("ladder"),
    Way("same order, no hints", hints=False),
    Way("one zone, retry", hints=False, others=False),
)


@dataclass(frozen=True)
class Outcome:
    """One search. minutes: to the VM, or until it was given up."""

    landed: bool
    attempts: int
    minutes: float
    usd_per_h: float


def places(**more: Any) -> tuple[Rung, ...]:
    """Every rung of the profile, as the product ranks them without advice; more: of `Question`."""
    question = Question(profile=profile.load(PROFILE), regions=REGIONS, weights_region=HOME, **more)
    return rungs(question)[0]


def search(way: Way, world: World | Played, found: Sequence[Rung]) -> Outcome:
    """Walk one world by one way."""
    if way.advice:
        found = rank([replace(r, obtainability=world.advice(r.place)) for r in found])
    ladder = Ladder(rungs=found, retry_for_s=RETRY_FOR_S)
    attempts: list[Attempt] = []
    now_s = 0.0
    while isinstance(step := _next(way, ladder, attempts), Try):
        now_s += step.wait_s
        error = world.ask(step.rung.place, now_s / 60)
        now_s += FAILED_S
        verdict = None if error is None else _heard(way, classify(error))
        attempts.append(Attempt(rung=step.rung, round=step.round, verdict=verdict, ended_s=now_s))
    landed = isinstance(step, Done)
    rate = attempts[-1].rung.rate.usd_per_h
    return Outcome(landed, len(attempts), now_s / 60, rate)


def _next(way: Way, ladder: Ladder, attempts: Sequence[Attempt]) -> object:
    """The product's step; who knows one zone only asks it again each minute."""
    if way.others or not attempts or attempts[-1].verdict is None:
        return next_step(ladder, attempts)
    over = attempts[-1].ended_s >= RETRY_FOR_S
    return None if over else Try(rung=ladder.rungs[0], wait_s=60.0)


def _heard(way: Way, verdict: Verdict) -> Verdict:
    return verdict if way.hints else replace(verdict, zones=())


def table(regime: Regime, trials: int, found: Sequence[Rung]) -> list[str]:
    """One regime, a row for each way, over the same worlds."""
    asked = tuple(r.place for r in found)
    worlds = [World(regime, asked, trial) for trial in range(trials)]
    lines = [
        f"## {regime.name}: {regime.says}",
        "",
        "| way | found a VM | attempts, median / p90 | minutes to it, median / p90 | USD/h, mean |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        ends = [search(way, world, found) for world in worlds]
        lines.append(f"| {way.name} | {row(ends)} |")
    return [*lines, ""]


def row(ends: Sequence[Outcome]) -> str:
    """Attempts over all searches; minutes and rate over those that ended with a VM."""
    landed = [end for end in ends if end.landed]
    share = f"{100 * len(landed) / len(ends):.0f} %"
    attempts = _two([end.attempts for end in ends])
    if not landed:
        return f"{share} | {attempts} | - | -"
    rate = statistics.mean(end.usd_per_h for end in landed)
    return f"{share} | {attempts} | {_two([end.minutes for end in landed])} | {rate:.2f}"


def patterns() -> list[str]:
    """The local cloud's patterns, a row each."""
    ways = [way for way in WAYS if not way.advice]
    lines = [
        "## The local cloud's patterns",
        "",
        "The files in `local/patterns/` that are about room and quota alone: attempts, and minutes "
        "to the VM. Asked for",
        f"is {MACHINE} for an hour, on spot, or on any model where the pattern tells them apart. "
        "A test plays the same",
        "files against the local cloud.",
        "",
        "| pattern | " + " | ".join(way.name for way in ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for one in played():
        models = ANY if one.models_differ else ("spot",)
        found = places(machines=(MACHINE,), provisioning=models, hours=1)
        world = one.over(tuple(r.place for r in found))
        ends = [search(way, world, found) for way in ways]
        lines.append(f"| {one.name}: {one.says} | " + " | ".join(map(_cell, ends)) + " |")
    return [*lines, ""]


def _cell(end: Outcome) -> str:
    return f"{end.attempts}, {end.minutes:.0f} min" if end.landed else f"{end.attempts}, none"


def _two(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):.0f} / {ordered[int(0.9 * (len(ordered) - 1))]:.0f}"


def sources(found: Sequence[Rung]) -> str:
    """Where the prices are from, and of which day."""
    return "\n".join(sorted({f"- {r.rate.date}: {r.rate.source}" for r in found}))


def page(trials: int = TRIALS) -> str:
    """docs/results/ladder.md, whole."""
    found = places()
    head = f"""\
# Attempts and minutes to a VM

Made by `python bench/ladder.py --out docs/results/ladder.md`; a test holds this page to it.
**A simulation on made patterns, not a measurement**: nobody has published how spot GPUs come and
go, so each pattern below is an assumption, said in its title: how much of the time a place has room
and for how long are nobody's figures. A history that somebody has recorded can be played as these
are (`docs/local-capacity.md`, key `source`); none comes with mayfly. Of what ranks the places only
the prices are published, not the {EGRESS_USD_PER_GB:g} USD/GB between regions; `mayfly/rates.yaml`
has each with its source:

{sources(found)}

What walks through the patterns is the product: its ranking, its reading of Google's errors, its
steps.

{PROFILE} on spot, {len(found)} places ({len({r.place.region for r in found})} regions, \
{len({r.place.machine for r in found})} machines), weights in {HOME}, {trials} searches a row, all
rows on the same worlds. A search is given up after {RETRY_FOR_S / 3600:g} h. Assumed: a failed \
attempt takes {FAILED_S:.0f} s; of the
zones that Google names, in the same region only, {HINT_IS_RIGHT:.0%} are right; its advice is \
right to a third. Minutes and
rate are of the searches that found a VM, so a way that finds few of them can look fast.

What it shows: other places are what finds a VM; the hints save little here, because places of one
region cost the same and so stand next to each other anyway; advice pays where few places have room.
"""
    tables = [line for regime in REGIMES for line in table(regime, trials, found)]
    return "\n".join([head, *tables, *patterns()]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="write the page there; else print it")
    parser.add_argument("--trials", type=int, default=TRIALS)
    given = parser.parse_args(arguments)
    made = page(given.trials)
    if given.out:
        given.out.write_text(made)
    else:
        print(made, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
