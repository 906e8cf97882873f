"""The matrix in several places at once: most of a scenario's time is waiting."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.faults import page
from tests.faults.conditions import AT_ONCE, CONDITIONS
from tests.faults.measure import Result
from tests.faults.scenario import ALONE, PAUSED, Scenario

# A place takes a minute to build: fewer scenarios than this share one.
FEW = 5
PLACES = 3
# Seconds that a scenario takes of its place's time, about: what is played alone takes it whole.
LONG_S = 70.0
# A place that is told to end lets the reaper's last tick end first.
END_LIMIT_S = 180.0


def split(chosen: Sequence[Scenario], places: int) -> list[list[Scenario]]:
    """The scenarios of each place, none empty; what wants a paused scheduler stays together."""
    paused = [one for one in chosen if one.condition == PAUSED]
    blocks = [[one] for one in chosen if one.condition != PAUSED] + ([paused] if paused else [])
    shards: list[list[Scenario]] = [[] for _ in range(places if len(chosen) > FEW else 1)]
    for block in sorted(blocks, key=_seconds, reverse=True):
        min(shards, key=_seconds).extend(block)
    return [shard for shard in shards if shard]


def _seconds(block: Sequence[Scenario]) -> float:
    paused = any(one.condition == PAUSED for one in block)
    whole = sum(one.condition == ALONE for one in block)
    shared = len(block) - whole
    return LONG_S * (2 * paused + whole + shared / AT_ONCE)


def play(shards: Sequence[Sequence[Scenario]], runs: int, logs: Path) -> list[dict[str, Any]]:
    """Each shard in a process of its own; all rows, in no order."""
    children = []
    for number, shard in enumerate(shards):
        names = ",".join(one.name for one in shard)
        words = ["--only", names, "--runs", str(runs), "--logs", str(logs / f"place-{number}")]
        # While one place waits out its faults one by one, another has many at once.
        words += ["--first", str(number % len(CONDITIONS))]
        command = [sys.executable, "-m", "tests.faults", "--places", "1", "--json", *words]
        children.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
    try:
        said = [child.communicate()[0] for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(END_LIMIT_S)
        raise
    found = zip(shards, said, children, strict=True)
    rows = [rows_of(shard, text, child.returncode) for shard, text, child in found]
    return [
        {**row, "logs": [f"{logs.name}/{log}" for log in row["logs"]]}
        for shard_rows in rows
        for row in shard_rows
    ]


def rows_of(shard: Sequence[Scenario], text: bytes, code: int) -> list[dict[str, Any]]:
    """What a place said; where it died without a word, that is every row's problem."""
    try:
        rows: list[dict[str, Any]] = json.loads(text)["scenarios"]
    except ValueError:
        died = Result(problems=[f"its place ended with {code} and said nothing"])
        return [page.row(one, [died]) for one in shard]
    return rows
