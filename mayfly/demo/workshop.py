"""A project folder of the demo's own: the checkout's program, other settings, git left alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mayfly.project import CHECKOUT, Project, read_yaml

FOUNDATION, SEED, SESSION, CLEAN_SESSION = "foundation", "seed", "demo", "clean"

# Shipped limits would take half an hour; these only shrink them. Minutes, fractions welcome.
SHORT_LIVES = {
    "mayfly:idleMinutes": "2",
    "mayfly:startMinutes": "5",
    "mayfly:failedMinutes": "2",
    "mayfly:heartbeatMinutes": "1",
    "mayfly:maxHours": "1",
}
# A seed is never silent for long on purpose; a session is what the demo waits for.
SHORT_IDLENESS = {"mayfly:idleMinutes": "0.3"}
LINKED = (".venv", "__main__.py", "components", "mayfly", "profiles", "reaper", "startup")
# The stack file that each stack of ours starts from.
SHIPPED = {FOUNDATION: FOUNDATION, SEED: SEED, SESSION: "dev", CLEAN_SESSION: "dev"}


def make_project(folder: Path, google_project: str, checkout: Path = CHECKOUT) -> Project:
    """Fill an empty folder with links to the program and stack files with short lives."""
    shipped = Project(checkout)
    for name in LINKED:
        (folder / name).symlink_to(checkout / name)
    write(folder / "Pulumi.yaml", read_yaml(checkout / "Pulumi.yaml"))
    for stack, source in SHIPPED.items():
        config = dict(shipped.config(source)) | {"gcp:project": google_project}
        if stack != FOUNDATION:
            config |= SHORT_LIVES
        if stack == SESSION:
            config |= SHORT_IDLENESS
        write(folder / f"Pulumi.{stack}.yaml", {"config": config})
    return Project(folder)


def write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False))
