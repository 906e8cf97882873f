"""`mayfly seed`: a model's weights into the bucket."""

import os
import sys

from mayfly import names, profile, vms
from mayfly.engine import Engine
from mayfly.errors import WrongInputError
from mayfly.project import find_project


def run(name: str, *, stack: str) -> None:
    """Bring up the seeding VM and wait until the weights are complete; it ends itself."""
    profile.load(name)  # ConfigError names the valid ones
    vms.check_session_name(stack)
    project = find_project()
    google_project = project.google_project()
    engine = Engine(project)
    layer = project.layer(stack)
    if layer not in (None, names.SEED):
        raise WrongInputError(
            f"Stack {stack!r} is a {layer}, not a seed.",
            "Nothing was attempted.",
            f"Try: mayfly seed {name} --stack seed",
        )
    if stack not in engine.stacks():
        engine.run("stack", "init", stack)
    written = project.config(stack)
    wanted = {"mayfly:layer": names.SEED, "mayfly:profile": name}
    if not any(os.environ.get(variable) for variable in names.PROJECT_VARIABLES):
        # A project that only this shell names must not stay behind in a tracked file.
        wanted["gcp:project"] = google_project
    for key, value in wanted.items():
        if written.get(key) != value:
            engine.run("config", "set", key, value, "--stack", stack)
    engine.run("up", "--yes", "--skip-preview", "--stack", stack)
    print(
        f"The weights of {name} are in the bucket; {stack}'s machine ends itself.", file=sys.stderr
    )
