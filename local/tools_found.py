"""Where the real parts are: the Pulumi engine and fake-gcs-server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PULUMI_VERSION = "v3.259.0"
FAKE_GCS_VERSION = "v1.55.1"


class MissingToolError(Exception):
    """A real part is not on this machine; the message says how to get it."""


def cache_dir() -> Path:
    """mayfly's part of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mayfly"


def fake_gcs_server() -> Path:
    return _find("fake-gcs-server", FAKE_GCS_VERSION, "MAYFLY_FAKE_GCS_SERVER", on_path=False)


def pulumi() -> Path:
    return _find("pulumi", PULUMI_VERSION, "MAYFLY_PULUMI", on_path=True)


def _find(name: str, version: str, variable: str, *, on_path: bool) -> Path:
    given = os.environ.get(variable)
    if given:
        found = Path(given)
        if not os.access(found, os.X_OK):
            raise MissingToolError(f"{variable} names {given}, which is no program.")
        return found.resolve()
    cached = cache_dir() / name / version / name
    if os.access(cached, os.X_OK):
        return cached.resolve()
    beside = shutil.which(name) if on_path else None
    if beside:
        return Path(beside).resolve()
    raise MissingToolError(
        f"{name} {version} is not on this machine (looked at {cached}).\n"
        "Nothing was started.\nTry: make engine"
    )
