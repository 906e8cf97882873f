"""Which of two runs of the same load is better, beyond noise.

    python bench/compare.py A.json B.json

For each figure the interval of the difference of means, from a bootstrap over the requests with a
fixed seed: the same two files, the same answer. All intervals hold together in 95 of 100 cases
(Bonferroni): of two runs of one server, some figure or other would else often look better.
Requests that went out next to each other are drawn together, since they share a batch: drawn one by
one they would look like more evidence than they are. What an interval cannot hold is how servers
differ from day to day; repeat both runs, in turn. Exit 2: the loads are not the same.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.result import ResultError, load_of, name, read

DRAWS = 10_000
LEVEL = 0.95
FEWEST = 8
"""Blocks a side; with fewer an interval says more about luck than about the server."""
SEED = 20261124
FIGURES = {"ttft_ms": "TTFT, ms", "tpot_ms": "TPOT, ms", "e2e_ms": "end to end, ms"}
"""All three are better where they are lower."""


class LoadError(Exception):
    """Two results that cannot be compared: what was asked of the servers differs."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """B less A of one figure at one load. low, high: the interval of the difference.

    verdict: "better", "worse" (B than A), "no difference beyond noise", or "too few requests".
    """

    load: str
    figure: str
    a: float
    b: float
    low: float
    high: float
    verdict: str


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Every figure of every phase. Raises LoadError."""
    refuse_other_load(a, b)
    cases = []
    for ours, theirs in zip(a["phases"], b["phases"], strict=True):
        for key, label in FIGURES.items():
            sides = Side.of(ours, key), Side.of(theirs, key)
            if all(len(side.counts) for side in sides):
                cases.append((load_of(ours), label, *sides))
    return [difference(*case, tail=(1 - LEVEL) / 2 / len(cases)) for case in cases]


def refuse_other_load(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Seeds may differ, and how many tokens a word has: everything else that is sent may not."""
    loads = [
        {k: v for k, v in result["load"].items() if k not in ("seed", "aim", "requests", "rounds")}
        for result in (a, b)
    ]
    keys = loads[0].keys() | loads[1].keys()
    other = sorted(k for k in keys if loads[0].get(k) != loads[1].get(k))
    if other:
        told = [f"{k} {loads[0].get(k)!r} and {loads[1].get(k)!r}" for k in other]
        raise LoadError(f"they differ in {'; '.join(told)}")
    phases = [[load_of(phase) for phase in result["phases"]] for result in (a, b)]
    if phases[0] != phases[1]:
        raise LoadError(f"one ran {', '.join(phases[0])}; the other {', '.join(phases[1])}")


@dataclass(frozen=True)
class Side:
    """One run's figure, in blocks of as many requests as were under way together, in their order.

    sums, counts: of each block.
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, phase: Mapping[str, Any], key: str) -> "Side":
        values = np.array([v for v in phase["samples"][key] if v is not None], dtype=float)
        size = max(1, min(phase["concurrent"] or 1, len(values) // FEWEST))
        starts = np.arange(0, len(values), size)
        if not len(starts):
            return cls(values, values)
        return cls(np.add.reduceat(values, starts), np.diff([*starts, len(values)]).astype(float))

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    def means(self, rng: np.random.Generator) -> np.ndarray:
        """The mean of each draw. Blocks drawn with replacement vary too little, by (n - 1) / n."""
        blocks = len(self.counts)
        drawn = rng.integers(0, blocks, (DRAWS, blocks))
        means: np.ndarray = self.sums[drawn].sum(axis=1) / self.counts[drawn].sum(axis=1)
        wider: np.ndarray = (means - self.mean) * np.sqrt(blocks / max(1, blocks - 1))
        return self.mean + wider


def difference(load: str, label: str, a: Side, b: Side, *, tail: float) -> Difference:
    """tail: the share of draws that may lie above the interval, and below."""
    rng = np.random.default_rng(SEED)
    draws = b.means(rng) - a.means(rng)
    low, high = (float(np.quantile(draws, share)) for share in (tail, 1 - tail))
    if min(len(a.counts), len(b.counts)) < FEWEST:
        verdict = "too few requests"
    elif low <= 0 <= high:
        verdict = "no difference beyond noise"
    else:
        verdict = "better" if high < 0 else "worse"
    figures = {"a": a.mean, "b": b.mean, "low": low, "high": high}
    rounded = {k: round(v, 3) for k, v in figures.items()}
    return Difference(load=load, figure=label, verdict=verdict, **rounded)


def show(a: Mapping[str, Any], b: Mapping[str, Any], found: Sequence[Difference]) -> None:
    """For people."""
    table = Table("load", "figure", "A", "B", "B - A", "B is")
    for row in found:
        span = f"{row.low:+,.2f} to {row.high:+,.2f}"
        table.add_row(row.load, row.figure, f"{row.a:,.2f}", f"{row.b:,.2f}", span, row.verdict)
    console = Console()
    console.print(f"A: {name(a)}\nB: {name(b)}", highlight=False)
    console.print(table)
    for label, result in (("A", a), ("B", b)):
        if result["errors"]:
            console.print(f"{label} had {result['errors']} failed requests; they are in no figure.")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 compared, whatever came out; 1 no result to read; 2 not the same load."""
    parser = argparse.ArgumentParser(description="Compare two benchmarks of the same load.")
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args(arguments)
    try:
        a, b = read(options.a), read(options.b)
        found = compare(a, b)
    except ResultError as error:
        print(f"{error}\nNothing was compared.", file=sys.stderr)
        return 1
    except LoadError as error:
        print(f"{options.a} and {options.b} are not the same load: {error}.", file=sys.stderr)
        print("Nothing was compared.", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"a": name(a), "b": name(b), "differences": [asdict(d) for d in found]}))
    else:
        show(a, b, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
