"""A profile: what a model is, where it fits, how it is served. One YAML a model, in profiles/.

The YAML holds facts and wishes. The engine's flags are computed from them (mayfly/modes.py).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mayfly import engine_flags
from mayfly.fit import GIB, FitError
from mayfly.machines import GPU_MACHINES, GPUS, MACHINES, MachineType
from mayfly.modes import MODES, MOST_UTIL, Choice, Limits, Target, Wish, choose
from mayfly.parts import Shape
from mayfly.problems import ConfigError, Problem, one_of
from mayfly.profile_parts import LOAD_FORMATS, Draft, Engine, Offer, Seeding
from mayfly.reading import Table
from mayfly.shape import shape_of

__all__ = ["MODES", "Wish"]

PROFILES = Path(__file__).resolve().parent.parent / "profiles"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to serve on one machine. flags: for `vllm serve`, the computed ones first."""

    context_tokens: int
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model at one commit. size_gb: GB (10^9) of weights; shards: None where nobody has counted.

    config: file name in profiles/configs/; shape: what it says, None where no planner can read it.
    serve: the model's own flags on every machine. machines: flags by machine and mode; empty where
    no machine holds the model.
    """

    name: str
    summary: str
    model: str
    revision: str
    licence: str
    size_gb: float
    shards: int | None
    served_model: str
    config: str | None
    engine: Engine
    seeding: Seeding
    wishes: Mapping[str, Wish]
    serve: tuple[str, ...]
    draft: Draft | None
    offers: Mapping[str, Offer]
    shape: Shape | None
    machines: Mapping[str, Mapping[str, Mode]]

    @property
    def default_machine(self) -> str:
        """The first that it is offered on; "" where it is offered on none."""
        return next(iter(self.machines), "")

    def choose(
        self, machine: str, mode: str, limits: Limits | None = None, nodes: int = 1
    ) -> Choice:
        """The planner's settings on any GPU machine, or on several of one type.

        FitError where the model does not fit.
        """
        if self.shape is None:
            raise FitError(self._unplanned(MACHINES[machine]))
        asked = limits or Limits()
        asked = replace(asked, util=asked.util or self.offers.get(machine, Offer()).util)
        target = Target(
            shape=self.shape,
            machine=MACHINES[machine],
            engine=self.engine.vllm,
            limits=asked,
            nodes=nodes,
        )
        return choose(target, mode, self.wishes[mode])

    def _unplanned(self, machine: MachineType) -> str:
        weights, memory = self.size_gb * 1e9 / GIB, machine.gpus * GPUS[machine.gpu].gib
        if weights > memory:
            return f"its weights take {weights:,.0f} GiB, all GPUs together have {memory:,.0f}"
        return f"the planner cannot read the config.json of {self.model}"

    def flags(self, machine: str, choice: Choice) -> tuple[str, ...]:
        """Everything that `vllm serve` is told for a choice."""
        return (*choice.flags, *self.offers.get(machine, Offer()).flags, *self.serve)


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
    return parse(name, raw, source, folder / "configs")


def parse(name: str, raw: Any, source: str, configs: Path = PROFILES / "configs") -> Profile:
    """A profile from plain data; ConfigError names each wrong key, its value and the valid ones."""
    problems: list[Problem] = []
    top = Table(raw, problems)
    config = top.text_or_none("config")
    profile = Profile(
        name=name,
        summary=top.text("summary"),
        model=_model(top, problems),
        revision=_revision(top, problems),
        licence=top.text("licence"),
        size_gb=top.number("size_gb"),
        shards=top.count_or_none("shards"),
        served_model=top.text("served_model"),
        config=config,
        engine=_engine(top.table("engine")),
        seeding=_seeding(top.table("seeding")),
        wishes=_wishes(top.table("wishes")),
        serve=top.texts("serve"),
        draft=_draft(top.table_or_none("draft")),
        offers=_offers(top.table("machines"), problems),
        shape=_shape(config, configs, problems),
        machines={},
    )
    top.close()
    problems += _flag_problems(profile)
    if not problems:
        profile = replace(profile, machines=_served(profile, problems))
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


def _wishes(table: Table) -> dict[str, Wish]:
    wishes = {}
    for mode in MODES:
        wish = table.table(mode)
        wishes[mode] = Wish(
            context_tokens=wish.count("context_tokens"), concurrency=wish.count("concurrency")
        )
        wish.close()
    table.close()
    return wishes


def _draft(table: Table | None) -> Draft | None:
    if table is None:
        return None
    draft = Draft(
        model=table.text("model"), method=table.text("method"), tokens=table.count("tokens")
    )
    table.close()
    return draft


def _offers(table: Table, problems: list[Problem]) -> dict[str, Offer]:
    offers = {}
    for name in table.names():
        offer = table.table(name)
        if name not in GPU_MACHINES:
            problems.append(Problem("machines", name, one_of(GPU_MACHINES)))
            continue
        util = offer.number("util") if "util" in offer.names() else None
        if util is not None and util > MOST_UTIL:
            problems.append(Problem(f"machines.{name}.util", util, f"At most {MOST_UTIL}."))
        flags = offer.texts("flags") if "flags" in offer.names() else ()
        offers[name] = Offer(util=util, flags=flags)
        offer.close()
    return offers


def _shape(config: str | None, configs: Path, problems: list[Problem]) -> Shape | None:
    if not config:
        return None
    try:
        return shape_of(json.loads((configs / config).read_text(encoding="utf-8")))
    except FileNotFoundError:
        right = f"It must be a file in profiles/configs/. {one_of(sorted(_jsons(configs)))}"
    except (ValueError, KeyError, TypeError) as error:
        # ShapeError is a ValueError; the others are a config that is no model's.
        right = f"It must be a model's config.json: {error}."
    problems.append(Problem("config", config, right))
    return None


def _jsons(configs: Path) -> list[str]:
    return [path.name for path in configs.glob("*.json")]


def _flag_problems(profile: Profile) -> list[Problem]:
    """Flags that the engine does not know, and those that are the planner's to compute."""
    named = {"serve": profile.serve}
    named |= {f"machines.{name}.flags": offer.flags for name, offer in profile.offers.items()}
    return [
        Problem(key, flag, wrong)
        for key, flags in named.items()
        for flag in flags
        if (wrong := engine_flags.problem(flag, profile.engine.vllm))
    ]


def _served(profile: Profile, problems: list[Problem]) -> dict[str, dict[str, Mode]]:
    """Both modes on each machine offered; one that does not fit is a problem."""
    served: dict[str, dict[str, Mode]] = {}
    for machine in profile.offers:
        served[machine] = {}
        for mode in MODES:
            try:
                choice = profile.choose(machine, mode)
            except FitError as error:
                problems.append(Problem(f"machines.{machine}", mode, f"It does not fit: {error}."))
                continue
            served[machine][mode] = Mode(
                context_tokens=choice.context, flags=profile.flags(machine, choice)
            )
    return served
