"""What a command says to the person beside what it prints: stdout belongs to whoever reads it."""

import sys

import typer

from mayfly.errors import WrongInputError


def tell(line: str) -> None:
    """One line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def confirm(question: str, *, yes: bool, undone: str, what: str = "it") -> None:
    """Ask, unless told not to. WrongInputError for a no, and where nobody is there to answer.

    undone: "Nothing was written." what: goes on after "Nobody is here to confirm".
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongInputError(
            f"Nobody is here to confirm {what}.", undone, "Try: the same command with --yes"
        )
    if not typer.confirm(question, err=True):
        raise WrongInputError(undone)
