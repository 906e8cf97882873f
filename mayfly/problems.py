"""What is wrong with an input, said once and completely."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mayfly.errors import WrongInputError

NOTHING_DONE = "Nothing was created; nothing is billed."


@dataclass(frozen=True)
class Problem:
    """One bad key: its name as the user wrote it, the value, and what would be right."""

    key: str
    value: object
    right: str

    def __str__(self) -> str:
        shown = "not set" if self.value is None else repr(self.value)
        return f"{self.key}: {shown}. {self.right}"


def one_of(valid: Iterable[str]) -> str:
    """ "Valid: a, b, c." for a message."""
    return f"Valid: {', '.join(valid)}."


class ConfigError(WrongInputError):
    """Every problem of one source together; nothing was attempted.

    source: what was read, e.g. "profiles/kimi-k2.5.yaml" or "stack dev".
    remedy: one command to paste, or "".
    """

    def __init__(self, source: str, problems: Sequence[Problem], remedy: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count > 1 else ''} in the configuration."
        what = "\n".join([head, *(f"  {problem}" for problem in self.problems)])
        super().__init__(what, NOTHING_DONE, f"Try: {remedy}" if remedy else "")
