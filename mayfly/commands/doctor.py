"""`mayfly doctor`: what is wrong, what it means, what to paste."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from mayfly.doctor.finding import Finding
from mayfly.doctor.log import troubles
from mayfly.errors import WrongInputError
from mayfly.problems import NOTHING_DONE

STDIN = "-"
MOST_BYTES = 8 << 20
"""Of a longer log the end: what a start died of stands there."""
FOUND = 3


def read(log: str, *, as_json: bool) -> None:
    """Print what a log shows. Exit 3 where that is something grave."""
    found = troubles(text_of(log))
    if as_json:
        print(json.dumps({"log": log, "findings": told(found)}, indent=2))
    elif found:
        show(found)
    else:
        print("Nothing in it that mayfly knows. Try: mayfly doctor, which looks at the project.")
    leave(found)


def text_of(log: str) -> str:
    """What is to be read. WrongInputError where there is nothing."""
    try:
        data = sys.stdin.buffer.read() if log == STDIN else Path(log).read_bytes()
    except OSError as error:
        raise WrongInputError(
            f"--log {log}: {error.strerror or error}.",
            NOTHING_DONE,
            "Try: mayfly logs SESSION | mayfly doctor --log -",
        ) from error
    text = data[-MOST_BYTES:].decode(errors="replace")
    if not text.strip():
        raise WrongInputError(
            f"--log {log}: there is nothing in it.",
            NOTHING_DONE,
            "Try: mayfly logs SESSION | mayfly doctor --log -",
        )
    return text


def told(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in found]


def show(found: Sequence[Finding]) -> None:
    """For people; the first is what to mend first."""
    for finding in found:
        print(f"{finding.id}: {finding.found}")
        print(f"  {finding.meaning}")
        print(f"  Try: {finding.remedy}")


def leave(found: Sequence[Finding]) -> None:
    if any(finding.grave for finding in found):
        raise typer.Exit(FOUND)
