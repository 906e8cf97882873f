"""Text that others wrote (the VM, its metadata, a lease), read strictly and kept short."""

import datetime
import json
from collections.abc import Mapping
from typing import Any

LINE_CHARS = 1024
TIMELINE_BYTES = 8192
STAGES = 64
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


def line(text: object) -> str | None:
    """One printable line of at most 1024 characters; None for anything that is not text."""
    if not isinstance(text, str):
        return None
    kept = "".join(c if c.isprintable() else " " for c in text[:LINE_CHARS])
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


def timeline(text: object) -> tuple[Mapping[str, Any], ...]:
    """The stages that a VM reports; entries that do not hold to the contract are dropped."""
    if not isinstance(text, str) or len(text.encode(errors="replace")) > TIMELINE_BYTES:
        return ()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(_stage(entry) for entry in found[:STAGES] if _is_stage(entry))


def _is_stage(entry: object) -> bool:
    return isinstance(entry, dict) and line(entry.get("stage")) is not None


def _stage(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    ok = entry.get("ok")
    size = entry.get("bytes")
    return {
        "stage": line(entry["stage"]),
        "start": entry["start"] if moment(entry.get("start")) is not None else None,
        "end": entry["end"] if moment(entry.get("end")) is not None else None,
        "bytes": size if size == 0 or amount(size) is not None else None,
        "ok": ok if isinstance(ok, bool) else None,
    }
