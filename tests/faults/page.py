"""A row of the result, and the page that is made from all of them."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.measure import Result
from tests.faults.scenario import Scenario
from tests.faults.timing import in_test, production

# A balanced persistent disk's list price in us-central1 (Google's disk pricing page, from memory).
DISK_USD_PER_GB_MONTH = 0.10

HEAD = """# Teardown under faults

Made by `{command}` on {date}, in {minutes:.0f} minutes;
do not edit. Each row was played {runs} on the local cloud: the real Pulumi engine on a gs:// state,
the reaper's function under functions-framework with its own engine, VMs that boot and run our
startup archive and watchdog. Only durations are shorter, by configuration. **Nothing here ran on
real Google Cloud.**

- *over*: seconds of GPU life after the session should have ended, the worst of all runs; by
  Compute's own operations. A session should have ended when it was idle for its limit, or when it
  failed, was preempted, or lost its stack.
- *bound*: what the design allows at the run's durations; *by default*: the same formula with the
  product's defaults (`tests/faults/timing.py`).
- *left*: VMs whose GPUs are not free, and what else costs, at the time that the reaper has had its
  turn; where it is off, when the VM ended.
- *kept*: weights and the foundation were the same before and after, object by object, resource by
  resource. *ledger*: one record for each VM's life, with its seconds, by whom the row says.
"""

Row = Mapping[str, Any]
WHEN = ("date", "commit")


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
        "real_processes": all(result.processes for result in results),
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
        "log": "",
        "logs": [result.log for result in results if result.log],
        "problems": problems,
    }


def told(said: Mapping[str, Any]) -> str:
    """For people: a line a scenario."""
    return "\n".join(
        f"{'ok ' if r['ok'] else 'BAD'} {r['gpu_seconds_over']:7.1f} s over, bound "
        f"{r['bound_seconds']:6.1f} s  {r['name']}  {'; '.join(r['problems'])}"
        for r in said["scenarios"]
    )


def page(said: Mapping[str, Any]) -> str:
    """The whole page."""
    rows = said["scenarios"]
    head = HEAD.format(
        command=said["command"],
        date=said["date"],
        minutes=said["seconds"] / 60,
        runs=_times(min(r["runs"] for r in rows)),
    )
    return "\n".join([head, *wrapped(promise(rows), 98), "", table(rows, when(said))]) + "\n"


def when(said: Mapping[str, Any]) -> str:
    """The day, and the commit where it is known; "" for a row that says neither."""
    return " at ".join(said[key] for key in WHEN if said.get(key))


def promise(rows: Sequence[Row]) -> str:
    """The table's worst lines, in the words that README uses too."""
    held, left = sum(r["ok"] for r in rows), sum(r["gpu_left"] for r in rows)
    runs = _times(min(r["runs"] for r in rows))
    said = [
        f"Of {len(rows)} faults, each played {runs} on the local cloud, "
        f"{'all' if held == len(rows) else held} ended within the bound that the design sets, and "
        f"{left or 'none'} left a GPU. With the default settings"
    ]
    lone = [r for r in rows if len(r["layers_off"]) > 1]
    most = [r for r in rows if r not in lone]
    if most:
        said.append(f"GPUs are free {_longest(most)} after the session should have ended")
    if lone:
        said.append(f"and where two of the three layers are off, {_longest(lone)} after it")
    return f"{', '.join(said)}, at the latest."


def _longest(rows: Sequence[Row]) -> str:
    """The longest bound among these, and whose it is."""
    worst = max(rows, key=_by_design)
    return f"{_duration(_by_design(worst))} (`{worst['name']}`)"


def wrapped(text: str, width: int) -> list[str]:
    """Lines of prose; a name is never broken."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times in a row")


def _by_design(row: Row) -> float:
    return float(row["bound_seconds_production"])


def _duration(seconds: float) -> str:
    """As people say it: 3.7 h, 67 min, 10 s."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


COLUMNS = {
    "scenario": "---",
    "layers off": "---",
    "over, s": "--:",
    "bound, s": "--:",
    "by default": "--:",
    "ended by": "---",
    "GPUs left": "--:",
    "else left": "---",
    "kept": "---",
    "ledger": "---",
    "runs": "--:",
    "log": "---",
}


def table(rows: Sequence[Row], played: str) -> str:
    """A line a scenario. played: when most were; a row that was played by itself says when."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'|'.join(COLUMNS.values())}|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(r, played))} |" for r in rows)])


def _cells(r: Row, played: str) -> list[str]:
    again = "" if when(r) in ("", played) else f", {when(r)}"
    left = ", ".join(r["resources_left"])
    failed = "" if r["ok"] else f" **NOT OK**: {'; '.join(r['problems'])}"
    return [
        f"**{r['name']}**: {r['does']}{failed}",
        ", ".join(r["layers_off"]) or "-",
        f"{r['gpu_seconds_over']:.1f}",
        f"{r['bound_seconds']:.0f}",
        f"{r['bound_seconds_production']:.0f} s, {_duration(_by_design(r))}",
        ", ".join(r["ended_by"]) or "-",
        str(r["gpu_left"]),
        f"{left}: ${r['usd_per_month_left']:.0f} a month" if left else "nothing",
        "yes" if r["intact"] else "NO",
        "right" if r["ledger_right"] else "WRONG",
        str(r["runs"]),
        (f"[log]({r['log']})" if r["log"] else "-") + again,
    ]
