"""Plays a trace to the real watchdog: `python -m tests.traces.replay` writes the verdicts anew.

A trace is a file of JSON lines. The first says what it is and by which limits it is judged, each
other what changed `at` so many seconds after the VM's creation (keys: `Simulated`'s own words, see
`apply`); the last one only ends it. Beside it lie its verdicts: for every second what the watchdog
last said and what the reaper would say, a line for each change.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mayfly import idle
from startup import watchdog
from tests.traces.simulated import WALL0, Simulated, simulated

FOLDER = Path(__file__).parent
SERIES = re.compile(r"^(\S+) (\S+)$", re.MULTILINE)


def traces() -> list[Path]:
    return sorted(FOLDER.glob("*.jsonl"))


def verdicts_of(trace: Path) -> Path:
    return trace.with_suffix(".verdicts")


def replay(trace: Path) -> str:
    """The verdicts, second by second, as the file beside the trace holds them."""
    head, *changes = [json.loads(line) for line in trace.read_text().splitlines()]
    limits = idle.Limits(**head["limits"])
    lines = [f"# {trace.stem}: second, watchdog, reaper, ends at"]
    with simulated(limits) as machine:
        said = ""
        for second, theirs, mine in seconds(machine, changes):
            ends = "" if theirs.ends_at is None else f"{theirs.ends_at - WALL0:.0f}"
            now = f"{told(mine)} {told(theirs)} {ends}"
            if now != said:
                lines.append(f"{second} {now}")
            said = now
        ended = "never" if machine.ended_at is None else f"at {machine.ended_at:g}"
    return "\n".join([*lines, f"# powered off: {ended}", ""])


def seconds(
    machine: Simulated, changes: list[dict[str, Any]]
) -> Iterator[tuple[int, idle.Verdict, idle.Verdict | None]]:
    """(second, the reaper's verdict, the watchdog's last). It looks once a period, as it does."""
    period_s, looks, mine = watchdog.period_s(machine.limits), 0, None
    for second in range(int(changes[-1]["at"]) + 1):
        while looks * period_s <= second:
            machine.at = looks * period_s
            while changes and changes[0]["at"] <= machine.at:
                apply(machine, changes.pop(0))
            if machine.ended_at is None:
                mine = machine.look()
            looks += 1
        machine.at = float(second)
        yield second, machine.reaper(), mine


def told(verdict: idle.Verdict | None) -> str:
    """ "idle", "idle!" for an end, "-" for none yet."""
    return "-" if verdict is None else verdict.kind + "!" * verdict.end


def apply(machine: Simulated, change: dict[str, Any]) -> None:
    """What has changed on the machine.

    phase; metrics: value by series, null where vLLM does not answer; terminals: by number, seconds
    from its opening to its last key, null: closed; processes: by pid, null: ended; lease: {"until"
    (seconds), "by", "vm_id"}, a text as it is, null: none; wall_jump_s; metadata_down,
    storage_down; restart: the watchdog was killed.
    """
    if "phase" in change:
        machine.phase(change["phase"])
    if "metrics" in change:
        exposition(machine, change["metrics"])
    for number, typed_s in change.get("terminals", {}).items():
        machine.terminal(number, typed_s=typed_s)
    for pid, facts in change.get("processes", {}).items():
        machine.process(int(pid), facts)
    if "lease" in change:
        lease = change["lease"]
        machine.lease = lease.encode() if isinstance(lease, str) else None
        if isinstance(lease, dict):
            machine.keep(lease.pop("until"), **lease)
    for name in ("wall_jump_s", "metadata_down", "storage_down"):
        if name in change:
            setattr(machine, name, change[name])
    if change.get("restart"):
        machine.start()


def exposition(machine: Simulated, changed: dict[str, float] | None) -> None:
    if changed is None:
        machine.metrics = None
        return
    series = dict(SERIES.findall(machine.metrics or ""))
    series.update({name: str(value) for name, value in changed.items()})
    machine.metrics = "".join(f"{name} {value}\n" for name, value in series.items())


def main() -> int:
    for trace in traces():
        verdicts_of(trace).write_text(replay(trace))
    print(f"{len(traces())} written; now read the difference: git diff {FOLDER.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
