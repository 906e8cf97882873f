"""What a VM says of the work that it does now (guest attribute `mayfly/load`): a claim."""

import json
import math
from dataclasses import dataclass

from mayfly import idle

MOST = 1e6


@dataclass(frozen=True, kw_only=True)
class Load:
    """tok_s: tokens generated a second over the last look, None at the first; the others: requests
    now."""

    tok_s: float | None
    running: int
    waiting: int


def parse(claim: str) -> Load | None:
    """The load; None where vLLM does not answer, and for anything but the contract's form."""
    if len(claim) > idle.MAX_CLAIM_BYTES:
        return None
    try:
        found = Load(**json.loads(claim))
    except (ValueError, TypeError, RecursionError):
        return None
    counts = all(type(n) is int and 0 <= n <= MOST for n in (found.running, found.waiting))
    speed = found.tok_s
    sound = speed is None or (
        type(speed) in (int, float) and math.isfinite(speed) and 0 <= speed <= MOST
    )
    return found if counts and sound else None
