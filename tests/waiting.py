"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.02


def wait_until(
    condition: Callable[[], Any], limit_s: float = 60.0, *, poll_s: float = POLL_S
) -> Any:
    """What `condition` returns once it is true; AssertionError when the limit is over.

    The limit only says how long a failure takes: a busy machine must not look like one.
    """
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {limit_s:g} s: {condition}"
        time.sleep(poll_s)
    return value
