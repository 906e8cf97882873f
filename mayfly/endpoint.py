"""What a VM says that it serves (guest attribute `mayfly/endpoint`): a claim, parsed as one."""

import json
from dataclasses import dataclass

from mayfly import idle

SAFE = "safe"
MODES = ("fast", "long", SAFE)
MAX_TOKENS = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """mode: of MODES; "safe" where the one asked for failed its check. max_model_len: tokens."""

    mode: str
    max_model_len: int
    served_model: str


def parse(claim: str) -> Endpoint | None:
    """The endpoint; None before there is one, and for anything but the contract's form."""
    if len(claim) > idle.MAX_CLAIM_BYTES:
        return None
    try:
        found = Endpoint(**json.loads(claim))
    except (ValueError, TypeError, RecursionError):
        return None
    sound = (
        found.mode in MODES
        and type(found.max_model_len) is int
        and 0 < found.max_model_len <= MAX_TOKENS
        and isinstance(found.served_model, str)
        and found.served_model.isprintable()
    )
    return found if sound else None
