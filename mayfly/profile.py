"""A profile: what a model is, where it fits, how it is served. One YAML a model, in profiles/."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mayfly.machines import MACHINES
from mayfly.problems import ConfigError, Problem, one_of
from mayfly.reading import Table

PROFILES = Path(__file__).resolve().parent.parent / "profiles"
MODES = ("fast", "long")
LOAD_FORMATS = ("safetensors", "fastsafetensors", "instanttensor")
"""vLLM's ways from the files to the GPU that the locked environments hold."""
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The locked environment that serves the model.

    vllm: version. lock: file name in startup/locks/. driver_branch: e.g. "580".
    load_format: of LOAD_FORMATS.
    """

    vllm: str
    lock: str
    driver_branch: str
    load_format: str


@dataclass(frozen=True, kw_only=True)
class Seeding:
    """How the weights come from the hub: files in flight at a time, and the disk they need (GB)."""

    disk_gb: int
    parallel: int


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the planner aims at: the longest context in tokens and the requests at a time."""

    context_tokens: int
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to serve on one machine. flags: passed to `vllm serve` as they are."""

    context_tokens: int
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model at one commit. size_gb: GB (10^9); shards: None where nobody has counted."""

    name: str
    summary: str
    model: str
    revision: str
    licence: str
    size_gb: float
    shards: int | None
    served_model: str
    engine: Engine
    seeding: Seeding
    wishes: Wishes
    machines: Mapping[str, Mapping[str, Mode]]

    @property
    def default_machine(self) -> str:
        return next(iter(self.machines))


def names() -> tuple[str, ...]:
    """Every shipped profile, by name."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def load(name: str, folder: Path = PROFILES) -> Profile:
    """The profile `name` of `folder`; ConfigError with every problem if it cannot be used."""
    path = folder / f"{name}.yaml"
    source = f"profiles/{name}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        valid = one_of(sorted(each.stem for each in folder.glob("*.yaml")))
        raise ConfigError(source, [Problem("profile", name, valid)]) from None
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(source, [Problem("YAML", line, "It must be valid YAML.")]) from None
    return parse(name, raw, source)


def parse(name: str, raw: Any, source: str) -> Profile:
    """A profile from plain data; ConfigError names each wrong key, its value and the valid ones."""
    problems: list[Problem] = []
    top = Table(raw, problems)
    profile = Profile(
        name=name,
        summary=top.text("summary"),
        model=_model(top, problems),
        revision=_revision(top, problems),
        licence=top.text("licence"),
        size_gb=top.number("size_gb"),
        shards=top.count_or_none("shards"),
        served_model=top.text("served_model"),
        engine=_engine(top.table("engine")),
        seeding=_seeding(top.table("seeding")),
        wishes=_wishes(top.table("wishes")),
        machines=_machines(top.table("machines"), problems),
    )
    top.close()
    if problems:
        raise ConfigError(source, problems)
    return profile


def _model(top: Table, problems: list[Problem]) -> str:
    model = top.text("model")
    if model and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        problems.append(Problem("model", model, "It must be a hub id, organisation/name."))
    return model


def _revision(top: Table, problems: list[Problem]) -> str:
    revision = top.text("revision")
    if revision and not COMMIT.fullmatch(revision):
        right = "It must be a commit of the hub, 40 hexadecimal digits: a branch may move."
        problems.append(Problem("revision", revision, right))
    return revision


def _engine(table: Table) -> Engine:
    engine = Engine(
        vllm=table.text("vllm"),
        lock=table.text("lock"),
        driver_branch=table.text("driver_branch"),
        load_format=table.choice("load_format", LOAD_FORMATS),
    )
    table.close()
    return engine


def _seeding(table: Table) -> Seeding:
    seeding = Seeding(disk_gb=table.count("disk_gb"), parallel=table.count("parallel"))
    table.close()
    return seeding


def _wishes(table: Table) -> Wishes:
    wishes = Wishes(
        context_tokens=table.count("context_tokens"), concurrency=table.count("concurrency")
    )
    table.close()
    return wishes


def _machines(table: Table, problems: list[Problem]) -> dict[str, dict[str, Mode]]:
    gpu_types = [name for name, machine in MACHINES.items() if machine.gpus]
    machines = {}
    for name in table.names():
        machine = table.table(name)
        if name not in gpu_types:
            problems.append(Problem("machines", name, one_of(gpu_types)))
            continue
        machines[name] = _modes(machine.table("modes"), f"machines.{name}.modes", problems)
        machine.close()
    if not table.names():
        problems.append(Problem("machines", None, f"At least one. {one_of(gpu_types)}"))
    return machines


def _modes(table: Table, path: str, problems: list[Problem]) -> dict[str, Mode]:
    modes = {}
    for name in table.names():
        mode = table.table(name)
        if name not in MODES:
            problems.append(Problem(path, name, one_of(MODES)))
            continue
        modes[name] = Mode(context_tokens=mode.count("context_tokens"), flags=mode.texts("flags"))
        mode.close()
    if not table.names():
        problems.append(Problem(path, None, f"At least one. {one_of(MODES)}"))
    return modes
