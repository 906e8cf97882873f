"""A benchmark's result read back: the file that `--out` wrote, held to its form."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
NEEDED = ("date", "versions", "url", "model", "session", "rate", "load", "errors", "phases")


class ResultError(Exception):
    """A file that holds no result, or none that this can read."""


def read(path: Path) -> dict[str, Any]:
    """The result. ResultError names the file and what is wrong with it."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ResultError(f"{path}: not a benchmark's result of format {FORMAT}")
    missing = [name for name in NEEDED if name not in found]
    if missing or not found["phases"]:
        raise ResultError(f"{path}: without {', '.join(missing) or 'phases'}")
    return found


def name(result: Mapping[str, Any]) -> str:
    """What people call it: the session or the model, and the day."""
    session = result["session"] or {}
    who = session.get("session") or result["model"]
    return f"{who}, {result['date'][:16].replace('T', ' ')}"


def load_of(phase: Mapping[str, Any]) -> str:
    """A phase's load in words."""
    if phase["rate_per_s"]:
        bound = f", {phase['concurrent']} at once at most" if phase["concurrent"] else ""
        return f"{phase['rate_per_s']:g} a second{bound}"
    return f"{phase['concurrent']} at once"
