"""What setup tells the person who waits for it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TELL_EVERY_S = 30.0
ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """What is missing, what it means, what to do: the lines of the message."""


def say(text: str) -> None:
    """One line to stderr, at once: stdout stays free for who asks a tool for its path."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


@contextmanager
def still(what: str, usually: str, every_s: float = TELL_EVERY_S) -> Iterator[None]:
    """While the block runs, one line every so often: what is made, for how long, what is usual."""
    over = threading.Event()
    began = time.monotonic()

    def tell() -> None:
        while not over.wait(every_s):
            say(f"{what}: at work for {time.monotonic() - began:.0f} s ({usually})")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
