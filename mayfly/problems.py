"""What is wrong with an input, said once and completely."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


class ConfigError(ValueError):
    """Every problem of one source together; nothing was attempted.

    source: what was read, e.g. "profiles/kimi-k2.5.yaml" or "stack dev".
    remedy: one command to paste, or "".
    """

    def __init__(self, source: str, problems: Sequence[Problem], remedy: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        self.remedy = remedy
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.problems)
        head = f"{self.source}: {count} problem{'s' if count > 1 else ''} in the configuration."
        lines = [head, *(f"  {problem}" for problem in self.problems), NOTHING_DONE]
        if self.remedy:
            lines.append(f"Try: {self.remedy}")
        return "\n".join(lines)
