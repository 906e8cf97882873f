"""Every number the cold-start model uses, each with its unit and its source. Read, never invented.

What was measured for this project comes from docs/results/raw/; what was not, from
docs/results/2026-11-23-figures.yaml. A measurement wins over an entry of the same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
FIGURES = "2026-11-23-figures.yaml"
MACHINES = "2026-11-23-machines.yaml"
RANK = "raw/2026-11-23-h100-rank/results.jsonl"
START = "raw/2026-11-23-h100-start/results.jsonl"
ARCHIVE = "raw/2026-11-23-engine-archive/results.json"
PULLERS = "raw/2026-11-23-pullers/results.json"
STAGES = "raw/2026-11-23-demo-timeline/timeline.json"


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
    source = (
        f"{PULLERS}, measured {said['date']}: gcloud storage from a local server, hashes checked"
    )
    yield Figure("pull_cpu", row["cpu_s_per_gib"], "CPU s/GiB", source)


def stages(folder: Path) -> Iterator[Figure]:
    """Stages without bulk, as the demo's node ran them, so without a network's delay."""
    said = json.loads((folder / STAGES).read_text())
    for name in ("boot.sh", "ram", "gib", "config", "caches"):
        source = f"{STAGES}, measured {said['date']}: the demo's node on the local cloud"
        yield Figure(f"stage_{name}", said["seconds"][name], "s", source)


def rank(folder: Path) -> Iterator[Figure]:
    """One TP8 rank of K2.5 on one H100: prefill only; starts come from `starts`."""
    row = lines(folder / RANK)["base"]
    rate = row["prefill 57344"]["tok_s"]
    yield Figure("prefill", rate, "token/s", f"{RANK}, case base: 57,344 tokens, one rank alone")


def starts(folder: Path) -> Iterator[Figure]:
    """The real vLLM under the unit's own command line on one H100."""
    cases = lines(folder / START)
    yield from imports(cases)
    yield from warm_ups(cases)
    yield from loads(cases)


def imports(cases: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    marks = [cases[name]["marks"]["load_begins"] for name in ("workers", "overlap-workers-60")]
    source = f"{START}, case workers: to 'Starting to load model', a worker process as with TP"
    yield Figure("imports", marks[0], "s", source, min(marks), max(marks))


def warm_ups(cases: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    for name, case in (("warm_up_cold", "rank-cold"), ("warm_up_cached", "rank-restored")):
        row = cases[case]
        source = f"{START}, case {case}: one rank, all 61 layers, 'init engine took'"
        yield Figure(name, row["figures"]["engine_ready_took_s"], "s", source)
    row = cases["rank-restored"]
    listen_s = row["marks"]["healthy"] - row["marks"]["engine_ready"]
    source = f"{START}, case rank-restored: engine ready to /health 200"
    yield Figure("listen", round(listen_s, 1), "s", source)
    said = cases["restored-instanttensor"]["caches"]
    yield Figure("caches_unpack", said["unpack_s"], "s", f"{START}, case restored-instanttensor")


def loads(cases: Mapping[str, dict[str, Any]]) -> Iterator[Figure]:
    for format in ("safetensors", "instanttensor", "fastsafetensors", "runai"):
        row = cases[f"warm-{format}"]
        rate = 44.93 / row["figures"]["weights_took_s"]
        source = f"{START}, case warm-{format}: 44.9 GB in K2.5's shape, tmpfs to one GPU"
        yield Figure(f"load_one_{format}", round(rate, 2), "GB/s", source)
