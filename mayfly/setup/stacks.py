"""The three stacks: their files, and the state bucket as pulumi's backend."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mayfly import names, pricing
from mayfly.config import RATE_KEYS, SHIPPED_SESSION
from mayfly.engine import Engine
from mayfly.errors import WrongInputError
from mayfly.machines import MACHINES, SEEDING_MACHINES, region_of
from mayfly.problems import NOTHING_DONE
from mayfly.profile import load
from mayfly.project import Project
from mayfly.settings import DEFAULT_PROVISIONING
from mayfly.setup.look import HF_SECRET, Found, Wish

BACKEND = "PULUMI_BACKEND_URL"
REGIONS, KEY, TOKEN = "mayfly:regions", "mayfly:stateKey", "mayfly:hfTokenSecret"
STATE = "mayfly:stateBucket"


@dataclass(frozen=True)
class Stack:
    """What a stack lacks. changes: keys to set, "mayfly:regions[0]" for a list's first."""

    name: str
    missing: bool
    changes: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        told = [f"make the stack {self.name}, empty"] if self.missing else []
        if self.changes:
            keys = ", ".join(f"{key}={value}" for key, value in self.changes.items())
            told.append(f"write into Pulumi.{self.name}.yaml: {keys}")
        return told


def region_set(project: Project) -> str:
    """The region that the foundation's file names first; "" if it names none."""
    regions = project.config(names.FOUNDATION).get(REGIONS)
    return str(regions[0]) if isinstance(regions, list) and regions else ""


def stacks(project: Project, wish: Wish, found: Found) -> list[Stack]:
    """What each of the three lacks. WrongInputError where a file says something else already."""
    wanted = [names.FOUNDATION, SHIPPED_SESSION, *([names.SEED] if wish.seeding else [])]
    conflicts: list[str] = []
    made = []
    for name in wanted:
        written = project.config(name)
        changes = keys(name, wish, found)
        conflicts += against(name, written, wish, changes)
        lacking = {k: v for k, v in changes.items() if written.get(k) is None}
        lacking |= replaced(name, written, wish)
        made.append(Stack(name, name not in found.stacks, lacking))
    if conflicts:
        raise WrongInputError(
            f"{'; '.join(conflicts)}.",
            f"No value of yours is ever overwritten. {NOTHING_DONE}",
            "Try: mayfly init with the values above, or change them with pulumi config set",
        )
    return [stack for stack in made if stack.missing or stack.changes]


def keys(name: str, wish: Wish, found: Found) -> dict[str, str]:
    """What a stack's file must say."""
    wanted = {"gcp:project": wish.project}
    if wish.bucket != names.bucket(wish.project, "state"):
        wanted[STATE] = wish.bucket
    if name == names.FOUNDATION:
        if wish.state_key:
            wanted[KEY] = wish.state_key
        if wish.token or found.token:
            wanted[TOKEN] = HF_SECRET
    return wanted


def against(
    name: str, written: Mapping[str, Any], wish: Wish, wanted: Mapping[str, str]
) -> list[str]:
    """What a file says otherwise. A secret of the user's own for the hub's token is welcome."""
    said = [
        f"Pulumi.{name}.yaml says {key}: {written[key]}, not {value}"
        for key, value in wanted.items()
        if key != TOKEN and written.get(key) not in (None, value)
    ]
    settled = written.get("gcp:project") is not None and name == names.FOUNDATION
    regions = written.get(REGIONS)
    if settled and isinstance(regions, list) and regions and regions[0] != wish.region:
        said.append(f"Pulumi.{name}.yaml says {REGIONS}: {regions[0]} first, not {wish.region}")
    return said


def replaced(name: str, written: Mapping[str, Any], wish: Wish) -> dict[str, str]:
    """In a file as it was shipped (no project in it yet): the region, and what follows from it."""
    if written.get("gcp:project") is not None:
        return {}
    if name == names.FOUNDATION:
        regions = written.get(REGIONS) or [""]
        return {} if regions[0] == wish.region else {f"{REGIONS}[0]": wish.region}
    if region_of(str(written.get("mayfly:zone") or "")) == wish.region:
        return {}
    return place(name, written, wish.region)


def place(name: str, written: Mapping[str, Any], region: str) -> dict[str, str]:
    """Machine, zone and rate in a region; {} where nothing is offered there at a known price."""
    if name == names.SEED:
        machines: tuple[str, ...] = SEEDING_MACHINES
        kind = names.SEED
    else:
        machines = tuple(load(str(written.get("mayfly:profile"))).machines)
        kind = names.SESSION
    provisioning = str(written.get("mayfly:provisioning") or DEFAULT_PROVISIONING[kind])
    for machine in machines:
        for zone in MACHINES[machine].zones:
            rate = pricing.lookup(machine, zone, provisioning)
            if region_of(zone) == region and rate is not None:
                told = (f"{rate.usd_per_h:g}", rate.source, rate.date)
                keys = {"mayfly:machine": machine, "mayfly:zone": zone}
                return keys | dict(zip(RATE_KEYS, told, strict=True))
    return {}


def backend(bucket: str) -> str:
    return f"gs://{bucket}"


def require_backend(bucket: str) -> None:
    """WrongInputError where this shell sends pulumi to another backend."""
    said = os.environ.get(BACKEND)
    if said and said.rstrip("/") != backend(bucket):
        raise WrongInputError(
            f"{BACKEND} is {said}; the state of this project is in {backend(bucket)}.",
            NOTHING_DONE,
            f"Try: unset {BACKEND}",
        )


def logged_in(engine: Engine, bucket: str) -> bool:
    return bool(os.environ.get(BACKEND)) or engine.backend() == backend(bucket)


def apply(engine: Engine, stack: Stack, wish: Wish) -> None:
    """Make a stack, then write what its file lacks: all of it, or nothing."""
    if stack.missing:
        key = ("--secrets-provider", f"gcpkms://{wish.state_key}") if wish.state_key else ()
        engine.run("stack", "init", stack.name, *key)
    if stack.changes:
        pairs = [w for k, v in stack.changes.items() for w in ("--plaintext", f"{k}={v}")]
        engine.run("config", "set-all", "--path", "--stack", stack.name, *pairs)
