"""Times as Google writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(unix_s: float) -> str:
    """RFC 3339 in UTC with microseconds: "2026-11-23T15:00:00.123456Z"."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
