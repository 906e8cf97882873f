"""`mayfly seed`: a model's weights into the bucket."""

import os
from collections.abc import Mapping
from typing import Any

from mayfly import names, pricing, profile, vms
from mayfly.cloud import connect
from mayfly.config import RATE_KEYS
from mayfly.engine import Engine
from mayfly.errors import WrongInputError
from mayfly.machines import MACHINES, SEEDING_MACHINES
from mayfly.project import Project, find_project
from mayfly.settings import DEFAULT_PROVISIONING
from mayfly.talk import tell


def run(name: str, *, stack: str) -> None:
    """Bring up the seeding VM and wait until the weights are complete; it ends itself."""
    profile.load(name)  # ConfigError names the valid ones
    vms.check_session_name(stack)
    project = find_project()
    # Before Pulumi, which tries to reach its bucket for minutes and answers in fifty lines.
    vms.all_of_ours(connect(project.google_project()))
    bring(project, Engine(project), name, stack=stack)


def bring(project: Project, engine: Engine, name: str, *, stack: str) -> None:
    """The same for a caller that has an engine already."""
    google_project = project.google_project()
    layer = project.layer(stack)
    if layer not in (None, names.SEED):
        raise WrongInputError(
            f"Stack {stack!r} is a {layer}, not a seed.",
            "Nothing was attempted.",
            f"Try: mayfly seed {name} --stack seed",
        )
    written = project.config(stack)
    wanted = {"mayfly:layer": names.SEED, "mayfly:profile": name} | machine_keys(written)
    if not any(os.environ.get(variable) for variable in names.PROJECT_VARIABLES):
        # A project that only this shell names must not stay behind in a tracked file.
        wanted["gcp:project"] = google_project
    if stack not in engine.stacks():
        engine.create(stack)
    for key, value in wanted.items():
        if written.get(key) != value:
            engine.run("config", "set", key, value, "--stack", stack)
    engine.run("up", "--yes", "--skip-preview", "--stack", stack)
    tell(f"The weights of {name} are in the bucket; {stack}'s machine ends itself.")


def machine_keys(written: Mapping[str, Any]) -> dict[str, str]:
    """Machine, zone and rate for a stack that has no rate yet; {} for one that has.

    Raises WrongInputError where our table knows no price: a made-up one would be believed.
    """
    if any(written.get(key) for key in RATE_KEYS):
        return {}
    machine = str(written.get("mayfly:machine") or SEEDING_MACHINES[0])
    known = MACHINES.get(machine)
    zone = str(written.get("mayfly:zone") or (known.zones[0] if known else ""))
    provisioning = written.get("mayfly:provisioning") or DEFAULT_PROVISIONING[names.SEED]
    rate = pricing.lookup(machine, zone, str(provisioning))
    if rate is None:
        raise WrongInputError(
            f"Nobody has told mayfly a price for {machine} in {zone or 'no zone'}, {provisioning}.",
            "Nothing was attempted.",
            f"Try: set {', '.join(RATE_KEYS)} with pulumi config set",
        )
    rates = (f"{rate.usd_per_h:g}", rate.source, rate.date)
    return {
        "mayfly:machine": machine,
        "mayfly:zone": zone,
        **dict(zip(RATE_KEYS, rates, strict=True)),
    }
