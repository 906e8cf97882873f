"""From `create` to `ready`: the product's own stage graph, with seconds on it.

The stages and what they wait for are startup/run.py's SESSION; a stage that this model does not
know is an error. Stage serve is taken apart: imports, load (group by group, as the shards arrive),
warm-up, listen. Nothing here is measured: every number comes from a Book.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.coldstart_inputs import Book
from mayfly import profile
from mayfly.machines import MACHINES
from startup import manifest
from startup.run import SESSION, Stage
from startup.vllm_plugin import shards

CONFIGS = Path(__file__).resolve().parent.parent / "profiles/configs"
EXPERTS = re.compile(r'"(n_routed_experts|num_experts|num_local_experts)": *[1-9]')
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
    "one import",
)


class ModelError(Exception):
    """The product has changed and this model has not."""


@dataclass(frozen=True)
class Node:
    """A profile on a machine.

    gb: all weights. pieces: shards, which the loader groups. experts: a tensor for each of many.
    """

    profile: str
    machine: str
    gpus: int
    gb: float
    pieces: int
    experts: bool
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
        plain = {
            "profile": name,
            "gb": said.size_gb,
            "pieces": said.shards or math.ceil(said.size_gb / SHARD_GB),
            "experts": said.config is None or has_experts(CONFIGS / said.config),
            "load_format": said.engine.load_format,
        }
        found += [Node(machine=m, gpus=MACHINES[m].gpus, **plain) for m in said.machines]
    return found


def has_experts(config: Path) -> bool:
    return EXPERTS.search(config.read_text()) is not None


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
        boot = Span("boot", 0.0, self._book("boot"), "")
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
        imports = Span("imports", start, start + self._imports_s(), because)
        load = self._load(imports, found["weights"])
        kind = "warm_up_cached" if self._has["kernel caches"] else "warm_up_cold"
        warm_s = self._book("repack") + self._book(kind)
        warm = Span("warm-up", load.end, load.end + warm_s, "load")
        serve = Span("serve", warm.end, warm.end + self._book("listen"), "warm-up")
        return [imports, load, warm, serve]

    def _imports_s(self) -> float:
        """Of all processes, which come one after the other. The caches hold what vLLM found out
        about the model, too."""
        book, cold = self._book, "" if self._has["kernel caches"] else "_cold"
        more_s = book("ranks") if self._node.gpus > 1 else 0.0
        if self._has["one import"]:
            return book(f"imports_forked{cold}") + more_s
        if self._node.gpus > 1:
            more_s += book("imports_rank")
        return book(f"imports_afresh{cold}") + more_s

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
        return self._node.gb / self._book(f"load_{kind}" + ("" if self._node.experts else "_dense"))

    def _driver_s(self) -> float:
        ready_s = self._book("stage_driver") + self._book("gpu_init_per_gpu") * self._node.gpus
        if self._has["driver in the image"]:
            return ready_s
        return self._book("driver_upgrade") + ready_s

    def _engine_s(self) -> float:
        cores = self._book(f"vcpus_{self._node.machine}")
        unpack_s = max(self._book("engine_part"), self._book("engine_cpu") / cores)
        pull_s = self._book("engine_gb") / self._bucket_gb_s()
        return self._book("stage_engine") + pull_s + unpack_s

    def _weights_s(self) -> float:
        # The engine comes through the same card at the same time.
        gb, rate = self._node.gb + self._book("engine_gb"), self._bucket_gb_s()
        if not self._has["weights in RAM"]:
            rate = min(rate, self._book("disk_write"))
        return self._book("stage_engine") + gb / rate  # a puller's own start

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
