"""One record per VM life: who had it, how long, what it cost, who ended it and why.

Standard library only: the function writes these, the desk reads them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mayfly.errors import FailedError

FORMAT = 1
NUMBERS = frozenset({"seconds", "usd", "usd_per_h"})


@dataclass(frozen=True, kw_only=True)
class Record:
    """One VM's life. Times are RFC 3339 UTC; None = not known.

    seconds: from creation to halt or delete, stops left out; a failed launch has 0.
    usd: seconds x rate; None where the rate is not known, never a guess.
    ended_by: "reaper", "watchdog", "user", "google" or "unknown"; `reason` is one plain sentence.
    timeline: the stages as the VM told them (its claim, parsed), oldest first.
    """

    instance_id: str
    vm: str
    zone: str
    layer: str | None
    session: str | None
    profile: str | None
    started_by: str | None
    machine: str | None
    provisioning: str | None
    created: str | None
    ended: str | None
    seconds: float
    usd_per_h: float | None
    rate_source: str | None
    rate_date: str | None
    usd: float | None
    ended_by: str
    reason: str
    timeline: tuple[Mapping[str, Any], ...]

    def to_json(self) -> bytes:
        """The record as one JSON object, the same bytes for the same record."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True).encode()


def cost_usd(seconds: float, usd_per_h: float | None) -> float | None:
    """What a span of running costs; None where the rate is not known."""
    return None if usd_per_h is None else round(seconds / 3600 * usd_per_h, 6)


def from_json(data: bytes, source: str) -> Record:
    """Read a record back; FailedError names `source` and what is wrong with it."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise FailedError(f"{source}: not JSON: {error}") from error
    problems = _problems(raw)
    if problems:
        raise FailedError(f"{source}: " + "; ".join(problems))
    known = {field.name: raw[field.name] for field in fields(Record)}
    return Record(**{**known, "timeline": tuple(known["timeline"])})


def _problems(raw: Any) -> list[str]:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        return [f"not a ledger record of format {FORMAT}"]
    names = {field.name for field in fields(Record)}
    found = [f"no {name!r}" for name in sorted(names - raw.keys())]
    found += [f"unknown key {name!r}" for name in sorted(raw.keys() - names - {"format"})]
    if not _is_amount(raw.get("seconds")):
        found.append(f"seconds {raw.get('seconds')!r} is not a number of seconds")
    for name in ("usd", "usd_per_h"):
        if raw.get(name) is not None and not _is_amount(raw[name]):
            found.append(f"{name} {raw[name]!r} is not an amount")
    for name in sorted(names - NUMBERS - {"timeline"}):
        if not isinstance(raw.get(name), str | None):
            found.append(f"{name} {raw[name]!r} is not text")
    if not isinstance(raw.get("timeline"), list):
        found.append("timeline is not a list")
    return found


def _is_amount(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
