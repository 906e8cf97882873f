"""Every number the cold-start model uses, each with its unit and its source. Read, never invented.

What was measured for this project comes from docs/results/raw/; what was not, from
docs/results/2026-11-23-figures.yaml. A measurement wins over an entry of the same name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.start_server import MARKS

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
FIGURES = "2026-11-23-figures.yaml"
MACHINES = "2026-11-23-machines.yaml"
RANK = "raw/2026-11-23-h100-rank/results.jsonl"
STARTS = ("raw/2026-11-23-h100-start", "raw/2026-11-24-h100-start")
ARCHIVE = "raw/2026-11-23-engine-archive/results.json"
PULLERS = "raw/2026-11-23-pullers/pullers.json"
STAGES = "raw/2026-11-23-demo-timeline/timeline.json"


CHECKPOINT_GB = 44.93  # what bench/checkpoint.py --layers 5 writes
CHECKPOINT_GIB, RANK_GIB = 42.05, 71.23  # on the GPU, as vLLM said: that, and one rank of K2.5


class InputError(Exception):
    """A number that the model needs and no file has."""


@dataclass(frozen=True)
class Figure:
    """low and high: the range where sources or runs differ. A unit per second is better high."""

    name: str
    value: float
    unit: str
    source: str
    low: float | None = None
    high: float | None = None

    def pick(self, end: str) -> float:
        """`value`, or what makes a start quickest ("best") or slowest ("worst")."""
        if end == "value" or self.low is None or self.high is None:
            return self.value
        rate = self.unit in ("GB/s", "token/s")
        return self.high if (end == "best") == rate else self.low


class Book:
    """Figures by name; remembers which were used, in the order of their use."""

    def __init__(self, figures: Mapping[str, Figure], end: str = "value") -> None:
        self._figures = figures
        self._end = end
        self.used: dict[str, Figure] = {}

    def __call__(self, name: str) -> float:
        """The number itself. InputError: nobody measured or published it."""
        if name not in self._figures:
            raise InputError(f"no figure named {name!r} in {RESULTS}")
        self.used[name] = self._figures[name]
        return self._figures[name].pick(self._end)

    def rows(self) -> list[dict[str, Any]]:
        """What was used, as rows of the result."""
        return [
            {key: value for key, value in asdict(figure).items() if value is not None}
            for figure in self.used.values()
        ]


def read(folder: Path = RESULTS) -> dict[str, Figure]:
    """All figures, by name."""
    listed = yaml.safe_load((folder / FIGURES).read_text())
    found = {name: Figure(name=name, **said) for name, said in listed.items()}
    measured = [*archive(folder), *stages(folder), *pulls(folder), *rank(folder), *starts(folder)]
    for figure in [*machines(folder), *measured]:
        found[figure.name] = figure
    return found


def lines(path: Path) -> dict[str, dict[str, Any]]:
    """Cases that went well, by name; the last of a name counts."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    good = (row for row in rows if row.get("ok", row.get("exit") == 0))
    return {row["case"]["name"]: row for row in good}


def machines(folder: Path) -> Iterator[Figure]:
    for name, said in yaml.safe_load((folder / MACHINES).read_text()).items():
        source = f"{MACHINES}: Google's page on GPU machine types"
        yield Figure(f"vcpus_{name}", said["vcpus"], "vCPU", source)
        yield Figure(f"nic_{name}", said["gbit_s"] / 8, "GB/s", source)


def archive(folder: Path) -> Iterator[Figure]:
    """The engine's archives as a node finds them, and one core's seconds with them."""
    said = json.loads((folder / ARCHIVE).read_text())
    where = f"{ARCHIVE}, measured {said['date']}"
    parts = said["parts"]
    each_s = [part["sha256"]["cpu_s"] + part["unpack"]["cpu_s"] for part in parts]
    gb = sum(part["bytes"] for part in parts) / 1e9
    yield Figure("engine_gb", round(gb, 2), "GB", f"{where}: the environment in {len(parts)} parts")
    yield Figure("engine_cpu", round(sum(each_s), 1), "CPU s", f"{where}: to check and unpack all")
    yield Figure("engine_part", max(each_s), "CPU s", f"{where}: to check and unpack the largest")


def pulls(folder: Path) -> Iterator[Figure]:
    """What the pullers cost in processor time: no network of this size was measured."""
    said = json.loads((folder / PULLERS).read_text())
    row = next(row for row in said["rows"] if row["puller"] == "gcloud storage")
    source = f"{PULLERS}, measured {said['date'][:10]}: gcloud storage, crc32c checked"
    yield Figure("pull_cpu", row["further_cpu_s_per_gib"], "CPU s/GiB", source)


def stages(folder: Path) -> Iterator[Figure]:
    """Stages without bulk, as the demo's node ran them, so without a network's delay."""
    said = json.loads((folder / STAGES).read_text())
    for stage in said["timeline"]:
        took = datetime.fromisoformat(stage["end"]) - datetime.fromisoformat(stage["start"])
        source = f"{STAGES}, measured {said['date']}: the demo's node, with next to no bytes"
        yield Figure(f"stage_{stage['stage']}", round(took.total_seconds(), 1), "s", source)


def rank(folder: Path) -> Iterator[Figure]:
    """One TP8 rank of K2.5 on one H100: prefill only; starts come from `starts`."""
    row = lines(folder / RANK)["base"]
    rate = row["prefill 57344"]["tok_s"]
    yield Figure("prefill", rate, "token/s", f"{RANK}, case base: 57,344 tokens, one rank alone")


def starts(folder: Path) -> Iterator[Figure]:
    """The real vLLM under the unit's own command line on one H100."""
    found = {row["case"]: row for row in logs(folder)}
    yield from imports(found)
    yield from warm_ups(found)
    yield from loads(found)
    said = lines(folder / STARTS[0] / "results.jsonl")["rank-restored"]["caches"]
    source = f"{STARTS[0]}/results.jsonl, case rank-restored"
    yield Figure("caches_unpack", said["unpack_s"], "s", source)


def logs(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """What the logs of the measured starts say, by case; `from`: where they lie."""
    return [
        {"case": path.stem, "from": where, **timed(path.read_text())}
        for where in STARTS
        for path in sorted((folder / where).glob("*.log"))
    ]


def where(logs: Mapping[str, dict[str, Any]], *cases: str) -> str:
    """The start of a source: each folder with its cases."""
    by_folder: dict[str, list[str]] = {}
    for case in cases:
        by_folder.setdefault(logs[case]["from"], []).append(case)
    return "; ".join(f"{folder}, {', '.join(of_it)}" for folder, of_it in by_folder.items())


def timed(log: str) -> dict[str, Any]:
    """Moments and figures of a log by the names of MARKS; `end`: the last line of all."""
    found: dict[str, Any] = {}
    for line in log.splitlines():
        hit = re.match(r" *(\d+\.\d\d) (.*)", line)
        if hit is None:
            continue
        at, text = float(hit[1]), hit[2]
        found["end"] = at
        for name, pattern in MARKS.items():
            if name not in found and (mark := re.search(pattern, text)):
                found[name] = at
                if mark.groups():
                    found[f"{name}_took"] = float(mark[1])
    return found


def middle(name: str, values: list[float], unit: str, source: str) -> Figure:
    """The median of several runs, with their ends; of one, itself."""
    if len(values) == 1:
        return Figure(name, values[0], unit, source)
    return Figure(name, round(median(values), 2), unit, source, min(values), max(values))


def imports(logs: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    """Until the weights' turn: forked, with a rank's process of its own; and afresh, without."""
    for name, cases in (
        ("imports_forked", ("imports-fork-worker", "restored-fork", "overlap-60-fork")),
        ("imports_forked_cold", ("cold-fork",)),
        ("imports_afresh", ("rank-restored", "warm-instanttensor", "overlap-warm-60")),
        ("imports_afresh_cold", ("rank-cold", "first-safetensors", "overlap-first-watched")),
    ):
        marks = [logs[case]["load_begins"] for case in cases]
        source = f"{where(logs, *cases)}: process start to 'Starting to load model', one GPU"
        yield middle(name, marks, "s", source)
    case = "imports-spawn-worker"
    each_s = round(logs[case]["load_begins"] - logs[case]["engine"], 2)
    source = f"{where(logs, case)}: from the engine core's first line to the rank's turn to load"
    yield Figure("imports_rank", each_s, "s", source)


def warm_ups(logs: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    """One rank of K2.5, all its layers; compiling, profiling, graphs."""
    cold, cached = logs["rank-cold"], logs["rank-restored"]
    source = f"{where(logs, 'rank-cold')}: at least so long, it was cut off in graph capture"
    yield Figure("warm_up_cold", round(cold["end"] - cold["model"], 1), "s", source)
    source = f"{where(logs, 'rank-restored')}: 'init engine took'"
    yield Figure("warm_up_cached", cached["engine_ready_took"], "s", source)
    cases = ("cold-fork", "restored-fork", "overlap-60-fork")
    took = [round(logs[case]["listening"] - logs[case]["engine_ready"], 2) for case in cases]
    source = f"{where(logs, *cases)}: engine ready to the last line before /health"
    yield middle("listen", took, "s", source)


# The cases of each loader over K2.5's real tensors: their number binds, not their bytes.
LOADED = {
    "instanttensor": (
        *("warm-instanttensor", "overlap-first-watched", "overlap-warm-60"),
        *("cold-fork", "restored-fork"),
    ),
    "fastsafetensors": ("loader-fastsafetensors",),
    "safetensors": ("first-safetensors",),
    "runai_streamer": ("loader-runai",),
}


def loads(logs: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    """Rates from tmpfs to one GPU, a loader each."""
    files = "44.9 GB, 13,895 tensors, tmpfs to one H100"
    row = logs["restored-fork"]
    rest_s = row["model_took"] - row["weights_took"]
    for loader, cases in LOADED.items():
        # The streamer does not say what its load took, only what the model's did.
        took = [logs[c].get("weights_took") or logs[c]["model_took"] - rest_s for c in cases]
        rates = [round(CHECKPOINT_GB / seconds, 2) for seconds in took]
        yield middle(f"load_{loader}", rates, "GB/s", f"{where(logs, *cases)}: {files}")
    source = f"{where(logs, 'restored-fork')}: 'Model loading' less 'Loading weights', by size"
    yield Figure("repack", round(rest_s * RANK_GIB / CHECKPOINT_GIB, 1), "s", source)
