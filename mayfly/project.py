"""The user's checkout: where Pulumi.yaml is, what its stacks are configured for, which project."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mayfly import names
from mayfly.errors import WrongInputError

CHECKOUT = Path(__file__).resolve().parent.parent
"""Where this mayfly's own program, profiles and local cloud lie."""


@dataclass(frozen=True)
class Project:
    """A folder with mayfly's Pulumi.yaml."""

    root: Path

    def config(self, stack: str) -> dict[str, Any]:
        """A stack's configuration as written; {} when it has no file. Raises WrongInputError."""
        path = self.root / f"Pulumi.{stack}.yaml"
        return read_yaml(path).get("config") or {} if path.is_file() else {}

    def secrets_provider(self) -> str:
        """What seals the secrets of this project's stacks, as the foundation's file says; or ""."""
        path = self.root / f"Pulumi.{names.FOUNDATION}.yaml"
        found = read_yaml(path).get("secretsprovider") if path.is_file() else ""
        return found if isinstance(found, str) else ""

    def stacks(self) -> list[str]:
        """The stacks that have a configuration file here, sorted."""
        files = self.root.glob("Pulumi.*.yaml")
        return sorted(f.name.removeprefix("Pulumi.").removesuffix(".yaml") for f in files)

    def layer(self, stack: str) -> str | None:
        """The layer that a stack's file names; None when it has no file."""
        if stack not in self.stacks():
            return None
        return str(self.config(stack).get("mayfly:layer") or "session")

    def state_bucket(self, google_project: str) -> str:
        """Where states, leases and the ledger lie: as a stack's file says, the foundation's first;
        else by its usual name."""
        for stack in self._foundation_first():
            named = self.config(stack).get("mayfly:stateBucket")
            if isinstance(named, str) and named:
                return named
        return names.bucket(google_project, "state")

    def _foundation_first(self) -> list[str]:
        """It is the one that every session follows."""
        return sorted(self.stacks(), key=lambda stack: stack != names.FOUNDATION)

    def google_project(self) -> str:
        """The Google Cloud project id: environment, then any stack's file. WrongInputError."""
        for name in names.PROJECT_VARIABLES:
            if os.environ.get(name):
                return os.environ[name]
        for stack in self._foundation_first():
            project = self.config(stack).get("gcp:project")
            if isinstance(project, str) and project:
                return project
        raise WrongInputError(
            f"No Google Cloud project is set: neither ${names.PROJECT_VARIABLES[0]} nor "
            f"gcp:project in {self.root}/Pulumi.*.yaml.",
            "Nothing was attempted.",
            "Try: pulumi config set gcp:project YOUR-PROJECT --stack foundation",
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises WrongInputError naming the file."""
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise WrongInputError(
            f"{path} cannot be read: {reason}", "Nothing was attempted."
        ) from error
    if not isinstance(value, dict):
        raise WrongInputError(f"{path} is not a mapping of keys.", "Nothing was attempted.")
    return value


def find_project(start: Path | None = None) -> Project:
    """The nearest folder, from `start` upwards, whose Pulumi.yaml is mayfly's. WrongInputError."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        path = folder / "Pulumi.yaml"
        if path.is_file() and read_yaml(path).get("name") == "mayfly":
            return Project(folder)
    raise WrongInputError(
        f"No Pulumi.yaml of mayfly in {start} or above it.",
        "Nothing was attempted.",
        "Try: cd into the folder you cloned mayfly to",
    )
