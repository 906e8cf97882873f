"""The matrix in several places at once: most of a scenario's time is waiting."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.faults.conditions import AT_ONCE
from tests.faults.scenario import ALONE, PAUSED, Scenario

# A place takes a minute to build: fewer scenarios than this share one.
FEW = 5
PLACES = 3
# Seconds that a scenario takes of its place's time, about: what is played alone takes it whole.
LONG_S = 70.0


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
        command = [sys.executable, "-m", "tests.faults", "--places", "1", "--json", *words]
        children.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
    try:
        said = [child.communicate()[0] for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        raise
    return [row for text in said for row in json.loads(text)["scenarios"]]
