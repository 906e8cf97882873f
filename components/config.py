"""The stack's configuration as Pulumi holds it, and the words in which the program refuses."""

import json
import os
from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from mayfly import names, settings


def read_settings() -> settings.Settings:
    """This stack's settings; RunError with every problem if there is one, before any resource."""
    try:
        return settings.parse(_raw(), stack=pulumi.get_stack(), project=google_project())
    except settings.ConfigError as error:
        raise pulumi.RunError(str(error)) from None


def google_project() -> str | None:
    """The Google Cloud project: `gcp:project`, else the environment, as the provider does it."""
    configured = pulumi.Config("gcp").get("project")
    return configured or next(filter(None, map(os.environ.get, names.PROJECT_VARIABLES)), None)


def warn_of_local_backend() -> None:
    """A state on this disk is out of the reaper's reach: it can end the VM, not the stack."""
    if _backend_url().startswith("file://"):
        pulumi.warn(
            "The state is on this disk (file://). The reaper will delete the VM when it is idle, "
            "but it cannot clean this stack: run `pulumi destroy` or `mayfly down` yourself, or "
            "keep the state in a bucket (README, On Google Cloud)."
        )


def _raw() -> dict[str, str]:
    """Every `mayfly:` key. Pulumi has no call for that, and a misspelt one must not pass."""
    prefix = f"{names.PROJECT}:"
    everything = {**(get_config_env() or {}), **CONFIG.get()}
    return {
        key.removeprefix(prefix): value
        for key, value in everything.items()
        if key.startswith(prefix)
    }


def _backend_url() -> str:
    """Where `pulumi` keeps state: environment, else the last `pulumi login`."""
    if url := os.environ.get("PULUMI_BACKEND_URL"):
        return url
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    try:
        return str(json.loads((home / "credentials.json").read_text()).get("current", ""))
    except (OSError, ValueError):
        return ""
