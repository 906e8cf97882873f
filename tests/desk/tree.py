"""Every command that `mayfly` has: so that a new one cannot be forgotten by a table of a test."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from mayfly.cli import app


def commands() -> dict[str, set[str]]:
    """Each command ("quota check") with its options ("--json")."""
    return dict(_below(typer.main.get_command(app), ()))


def named(words: Sequence[str]) -> str:
    """The command that these words run."""
    known = commands()
    return max((name for name in known if f"{' '.join(words)} ".startswith(f"{name} ")), key=len)


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    found = getattr(command, "commands", None)
    if found is None:
        yield " ".join(path), {word for option in command.params for word in option.opts}
        return
    for name, each in found.items():
        yield from _below(each, (*path, name))
