"""Where the real parts are: the Pulumi engine, fake-gcs-server, gsutil."""

from __future__ import annotations

import os
import shutil
import sys
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
    return _find("fake-gcs-server", FAKE_GCS_VERSION, "MAYFLY_FAKE_GCS_SERVER")


def pulumi() -> Path:
    return _find("pulumi", PULUMI_VERSION, "MAYFLY_PULUMI")


def gsutil() -> Path | None:
    """gsutil's script; None where only a machine that pulls something will miss it."""
    for name in ("gsutil", "gcloud"):
        found = _beside_or_on_path(name)
        if found is None:
            continue
        script = found.parent.parent / "platform/gsutil/gsutil"
        if os.access(script, os.X_OK):
            return script
        if name == "gsutil":
            return found
    return None


def openssh_root() -> Path | None:
    """The tree that holds usr/sbin/sshd: setup's, else the system's; None where there is none."""
    found = _beside_or_on_path("sshd")
    for program in (found, Path("/usr/sbin/sshd")):
        if program and os.access(program, os.X_OK) and program.parts[-3:-1] == ("usr", "sbin"):
            return program.parents[2]
    cached = sorted((cache_dir() / "sshd").glob("*/tree/usr/sbin/sshd"))
    return cached[-1].parents[2] if cached else None


def _find(name: str, version: str, variable: str) -> Path:
    given = os.environ.get(variable)
    if given:
        found = Path(given)
        if not os.access(found, os.X_OK):
            raise MissingToolError(f"{variable} names {given}, which is no program.")
        return found.resolve()
    cached = cache_dir() / name / version / name
    if os.access(cached, os.X_OK):
        return cached.resolve()
    beside = _beside_or_on_path(name)
    if beside:
        return beside
    raise MissingToolError(
        f"{name} {version} is not on this machine (looked at {cached}).\n"
        "Nothing was started.\nTry: make engine"
    )


def _beside_or_on_path(name: str) -> Path | None:
    """Setup links the tools beside the interpreter."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    found = shutil.which(name, path=places)
    return Path(found).resolve() if found else None
