"""Waiting beside a cloud in the same process: a look every now and then, not all the time."""

import threading
import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.2
# The run was told to end: nothing is worth waiting for.
GIVEN_UP = threading.Event()


def wait_until(condition: Callable[[], Any], limit_s: float, *, poll_s: float = POLL_S) -> Any:
    """What `condition` returns once it is true; AssertionError when the limit is over, or all."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {limit_s:g} s: {condition}"
        assert not GIVEN_UP.wait(poll_s), "the run was told to end"
    return value
