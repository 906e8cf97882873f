"""A VM's own timeline, as the ledger keeps it."""

import json
from collections.abc import Mapping
from typing import Any

from mayfly.claims import amount, line, moment

TIMELINE_BYTES = 8192
STAGES = 64


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
