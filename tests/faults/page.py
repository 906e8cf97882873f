"""The result as JSON, and the table that is made from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.measure import Result
from tests.faults.scenario import Scenario
from tests.faults.timing import in_test, production

# A balanced persistent disk's list price in us-central1 (Google's disk pricing page, from memory).
DISK_USD_PER_GB_MONTH = 0.10
COMMAND = "make faults RUNS=3 OUT=docs/results/teardown.json"

HEAD = """# Teardown under faults

Made by `{command}` on {date}, in {minutes:.0f} minutes; do not edit. Each row was played
{runs} on the local cloud: the real Pulumi engine on a gs:// state, the reaper's function
under functions-framework with its own engine, VMs that boot and run our startup archive and
watchdog. Only durations are shorter, by configuration. **Nothing here ran on real Google Cloud.**

- *over*: seconds of GPU life after the session should have ended, the worst of all runs; by
  Compute's own operations. A session should have ended when it was idle for its limit, or when it
  failed, was preempted, or lost its stack.
- *bound*: what the design allows, from the settings of the run; behind it the same formula with
  the product's defaults (`tests/faults/timing.py`).
- GPUs left: {gpus}. Weights and foundation were compared object by object before and after each
  row; the ledger must hold one record for each VM's life, by whom the row says.
"""

Row = Mapping[str, Any]


def row(chosen: Scenario, results: Sequence[Result]) -> dict[str, Any]:
    """A scenario and its runs: the worst of each figure."""
    problems = [problem for result in results for problem in result.problems]
    left = max((result.left for result in results), key=len)
    disk_gb = max(result.disk_gb for result in results)
    return {
        "name": chosen.name,
        "does": chosen.does,
        "layers_off": list(chosen.layers_off),
        "ok": not problems,
        "runs": len(results),
        "real_processes": True,
        "gpu_seconds_over": max(result.over_s for result in results),
        "bound_seconds": round(chosen.bound(in_test(chosen.config)), 1),
        "bound_seconds_production": round(chosen.bound(production()), 1),
        "gpu_left": max(result.gpu_left for result in results),
        "resources_left": [what.partition(" mayfly-")[0] for what in left],
        "usd_per_month_left": round(disk_gb * DISK_USD_PER_GB_MONTH, 2),
        "ended_by": sorted({who for result in results for who in result.ended_by}),
        "intact": not any(p.startswith(("weights", "foundation")) for p in problems),
        "ledger_right": not any("ledger" in p or "no record" in p for p in problems),
        "seconds": max(result.seconds for result in results),
        "logs": [result.log for result in results],
        "problems": problems,
    }


def told(said: Mapping[str, Any]) -> str:
    """For people: a line a scenario."""
    return "\n".join(
        f"{'ok ' if r['ok'] else 'BAD'} {r['gpu_seconds_over']:7.1f} s over, bound "
        f"{r['bound_seconds']:6.1f} s  {r['name']}  {'; '.join(r['problems'])}"
        for r in said["scenarios"]
    )


def write(said: Mapping[str, Any], path: Path) -> None:
    """The JSON, and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(said))


def page(said: Mapping[str, Any]) -> str:
    """The whole page."""
    rows = said["scenarios"]
    head = HEAD.format(
        command=said["command"],
        date=said["date"],
        minutes=said["seconds"] / 60,
        runs=_times(min(r["runs"] for r in rows)),
        gpus=sum(r["gpu_left"] for r in rows),
    )
    return "\n".join([head, promise(rows), "", table(rows)]) + "\n"


def promise(rows: Sequence[Row]) -> str:
    """The table's worst lines, in the words that README uses too."""
    said = (
        f"Of {len(rows)} faults, each played {_times(min(r['runs'] for r in rows))} on the local "
        f"cloud, {_none(sum(r['gpu_left'] for r in rows))} left a GPU. With the default settings "
        "GPUs are free, by design and at the latest, "
    )
    lone = [r for r in rows if len(r["layers_off"]) > 1]
    said += _span([r for r in rows if r not in lone], " after the session should have ended")
    return said + (f"; where a single layer is left, {_span(lone)}." if lone else ".")


def _span(rows: Sequence[Row], what: str = "") -> str:
    """The longest bound among these, and whose it is."""
    worst = max(rows, key=_by_design)
    return f"{_minutes(_by_design(worst))}{what} (`{worst['name']}`)"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times in a row")


def _none(number: int) -> str:
    return str(number) if number else "none"


def _by_design(row: Row) -> float:
    return float(row["bound_seconds_production"])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def table(rows: Sequence[Row]) -> str:
    """A line a scenario."""
    lines = [
        "| scenario | layers off | over, s | bound, s | with defaults | ended by | left | log | |",
        "|---|---|--:|--:|--:|---|---|---|---|",
    ]
    for r in rows:
        left = ", ".join(r["resources_left"])
        cells = [
            f"**{r['name']}**: {r['does']}",
            ", ".join(r["layers_off"]) or "-",
            f"{r['gpu_seconds_over']:.1f}",
            f"{r['bound_seconds']:.0f}",
            _minutes(_by_design(r)),
            ", ".join(r["ended_by"]),
            f"{left}: ${r['usd_per_month_left']:.0f} a month" if left else "nothing",
            ", ".join(r["logs"]),
            "ok" if r["ok"] else "; ".join(r["problems"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
