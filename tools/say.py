"""What setup tells the person who waits for it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """What is missing, what it means, what to do: the lines of the message."""


def say(text: str) -> None:
    """One line to stderr, at once: stdout stays free for who asks a tool for its path."""
    print(f"setup: {text}", file=sys.stderr, flush=True)
