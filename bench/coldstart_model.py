"""From `create` to `ready`: the product's own stage graph, with seconds on it.

The stages and what they wait for are startup/run.py's SESSION; a stage that this model does not
know is an error. Stage serve is taken apart: imports, load (group by group, as the shards arrive),
warm-up, listen. Nothing here is measured: every number comes from a Book.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.coldstart_inputs import Book
from mayfly import profile
from mayfly.machines import MACHINES
from startup import manifest
from startup.run import SESSION, Stage
from startup.vllm_plugin import shards

GOAL_MINUTES = 4.0
GIB = 1.073741824
SHARD_GB = 9.3  # K2.5's, where nobody has counted a model's
ANSWERS = 2  # one after the other, in the second turn; chat and tool call go beside it

IMPROVEMENTS = (
    "driver in the image",
    "parallel pull",
    "weights in RAM",
    "fast loader",
    "kernel caches",
    "overlap",
)


class ModelError(Exception):
    """The product has changed and this model has not."""


@dataclass(frozen=True)
class Node:
    """A profile on a machine. gb: all weights. pieces: shards, which the loader groups."""

    profile: str
    machine: str
    gpus: int
    gb: float
    pieces: int
    load_format: str


@dataclass(frozen=True)
class Span:
    """because: what its end waited for; the critical path is read backwards along it."""

    name: str
    start: float
    end: float
    because: str


def nodes() -> list[Node]:
    """Every profile on every machine that it names."""
    found = []
    for name in profile.names():
        said = profile.load(name)
        pieces = said.shards or math.ceil(said.size_gb / SHARD_GB)
        for machine in said.machines:
            gpus = MACHINES[machine].gpus
            found.append(Node(name, machine, gpus, said.size_gb, pieces, said.engine.load_format))
    return found


class Start:
    """One start of one node. without: improvements that it does not have."""

    def __init__(
        self,
        node: Node,
        book: Book,
        without: Iterable[str] = (),
        stages: Sequence[Stage] = SESSION,
    ) -> None:
        self._node, self._book, self._stages = node, book, stages
        self._has = {name: name not in set(without) for name in IMPROVEMENTS}
        self._seconds: dict[str, Callable[[], float]] = {
            "ram": lambda: book("stage_ram"),
            "driver": self._driver_s,
            "gib": lambda: book("stage_gib"),
            "engine": self._engine_s,
            "config": lambda: book("stage_config"),
            "weights": self._weights_s,
            "caches": self._caches_s,
            "check": self._check_s,
        }

    def spans(self) -> list[Span]:
        """Everything that runs before `ready`, in the order of the graph. Seconds since create."""
        boot = Span("boot", 0.0, self._book("boot") + self._book("stage_boot.sh"), "")
        found = {"boot": boot}
        for stage in self._stages:
            if stage.late:
                continue
            after = [name for name in stage.after if name in found] or ["boot"]
            if stage.name == "serve":
                found |= {span.name: span for span in self._serve(after, found)}
                continue
            if stage.name not in self._seconds:
                raise ModelError(f"startup/run.py has a stage {stage.name!r} of unknown length")
            because = max(after, key=lambda name: found[name].end)
            start = found[because].end
            end = start + self._seconds[stage.name]()
            found[stage.name] = Span(stage.name, start, end, because)
        last = max(found.values(), key=lambda span: span.end)
        found["told"] = Span("told", last.end, last.end + self._book("poll"), last.name)
        return list(found.values())

    def _serve(self, after: list[str], found: dict[str, Span]) -> list[Span]:
        if not self._has["overlap"] and "weights" not in after:
            after = [*after, "weights"]
        because = max(after, key=lambda name: found[name].end)
        start = found[because].end
        imported = start + self._book("imports")
        if self._node.gpus > 1:
            imported += self._book("ranks")
        imports = Span("imports", start, imported, because)
        load = self._load(imports, found["weights"])
        kind = "warm_up_cached" if self._has["kernel caches"] else "warm_up_cold"
        warm = Span("warm-up", load.end, load.end + self._book(kind), "load")
        serve = Span("serve", warm.end, warm.end + self._book("listen"), "warm-up")
        return [imports, load, warm, serve]

    def _load(self, imports: Span, weights: Span) -> Span:
        """Group after group, each when the one before is done and its shards are there."""
        count = groups(self._node.pieces)
        each_s = self._load_s() / count
        at, because = imports.end, "imports"
        for number in range(1, count + 1):
            here = weights.start + (weights.end - weights.start) * number / count
            if here > at:
                at, because = here, "weights"
            at += each_s
        return Span("load", imports.end, at, because)

    def _load_s(self) -> float:
        if not self._has["weights in RAM"]:
            return self._node.gb / self._book("disk_load")
        kind = self._node.load_format if self._has["fast loader"] else "safetensors"
        return self._node.gb / self._book(f"load_{kind}")

    def _driver_s(self) -> float:
        ready_s = self._book("gpu_init_per_gpu") * self._node.gpus
        if self._has["driver in the image"]:
            return ready_s
        return self._book("driver_upgrade") + ready_s

    def _engine_s(self) -> float:
        cores = self._book(f"vcpus_{self._node.machine}")
        unpack_s = max(self._book("engine_part"), self._book("engine_cpu") / cores)
        # Its parts come by gsutil, and beside the weights.
        return self._book("engine_gb") / self._book("bucket_gsutil") + unpack_s

    def _weights_s(self) -> float:
        # The engine comes through the same card at the same time.
        gb = self._node.gb + self._book("engine_gb")
        if not self._has["weights in RAM"]:
            return gb / min(self._bucket_gb_s(), self._book("disk_write"))
        return gb / self._bucket_gb_s()

    def _bucket_gb_s(self) -> float:
        if not self._has["parallel pull"]:
            return self._book("bucket_gsutil")
        machine = self._node.machine
        cores = self._book(f"vcpus_{machine}") * GIB / self._book("pull_cpu")
        return min(self._book("bucket_parallel"), self._book(f"nic_{machine}"), cores)

    def _caches_s(self) -> float:
        wanted = self._has["kernel caches"]
        return self._book("stage_caches") + self._book("caches_unpack") if wanted else 0.0

    def _check_s(self) -> float:
        return ANSWERS * self._book("answer_tokens") / self._book("decode")


def groups(pieces: int) -> int:
    """How many the loader makes of so many shards."""
    files = [manifest.File(f"{i:06d}.safetensors", 1, "AAAAAA==", None) for i in range(pieces)]
    return len(shards.groups(files))


def minutes(spans: list[Span]) -> float:
    return round(max(span.end for span in spans) / 60, 2)


def critical_path(spans: list[Span]) -> list[tuple[str, float]]:
    """(part, seconds it adds), from the start on; the seconds add up to the whole."""
    by_name = {span.name: span for span in spans}
    span = max(spans, key=lambda one: one.end)
    found = []
    while True:
        before = by_name.get(span.because)
        found.append((span.name, span.end - (before.end if before else 0.0)))
        if before is None:
            return found[::-1]
        span = before


def forbidden_by(spans: list[Span]) -> str:
    """Why the goal is missed, and what holds instead; "" where it is met."""
    if minutes(spans) <= GOAL_MINUTES:
        return ""
    part, seconds = max(critical_path(spans), key=lambda row: row[1])
    return (
        f"{part}: {seconds:.0f} s of the critical path; "
        f"{minutes(spans)} minutes is the smallest figure that holds"
    )
