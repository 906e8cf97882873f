"""What must be known to repeat a benchmark: versions, machine, command, date."""

import datetime
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from bench.client import Endpoint, EndpointError


def conditions(endpoint: Endpoint, arguments: Sequence[str]) -> dict[str, Any]:
    """arguments: of the command line; a key in it is left out."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": without_key(arguments),
        "versions": {
            "mayfly": version("mayfly"),
            "engine": engine_version(endpoint),
            "python": platform.python_version(),
            "httptools": version("httptools"),
        },
        "client": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        },
    }


def without_key(arguments: Sequence[str]) -> list[str]:
    """The command line, fit to be shown."""
    shown, hide = [], False
    for word in arguments:
        shown.append("[key]" if hide else "--key=[key]" if word.startswith("--key=") else word)
        hide = word == "--key"
    return ["bench/benchmark.py", *shown]


def version(package: str) -> str | None:
    """None where it runs from a folder that nobody installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def engine_version(endpoint: Endpoint) -> str | None:
    """What the server says at /version; None where it says nothing."""
    try:
        found = endpoint.json("GET", "/version").get("version")
    except EndpointError:
        return None
    return str(found) if found else None
