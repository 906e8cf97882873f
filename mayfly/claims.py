"""What others wrote (a VM, its metadata, an engine on a laptop), read strictly and kept short."""

import datetime
import json
from collections.abc import Mapping
from typing import Any

LINE_CHARS = 1024
MOST = 1e15


def moment(text: object) -> float | None:
    """Unix seconds of Google's RFC 3339 ("2026-11-23T07:00:00.123-08:00"); None if it is not."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None


def line(text: object, chars: int = LINE_CHARS) -> str | None:
    """One printable line of at most so many characters; None where there is no text in it."""
    if not isinstance(text, str):
        return None
    kept = "".join(c if c.isprintable() else " " for c in text[:chars])
    return " ".join(kept.split()) or None


def amount(value: object) -> float | None:
    """A number above 0 and below 10^15; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < MOST else None


def mapping(text: object) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
