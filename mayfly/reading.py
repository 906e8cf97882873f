"""Read a table of unknown origin key by key and collect every problem, not only the first."""

from collections.abc import Mapping
from typing import Any

from mayfly.problems import Problem

NUMBER = (int, float)


class Table:
    """One mapping: `text`, `number`, ... take a key out of it; `close` reports what nobody took.

    A wrong or missing value is noted in `problems` and read as a harmless one: the caller raises
    once all is read, so nothing made from such a value leaves it.
    """

    def __init__(self, data: Any, problems: list[Problem], path: str = "") -> None:
        self._problems = problems
        self._path = path
        self._taken: set[str] = set()
        if not isinstance(data, Mapping):
            self._note("", data, "It must be a table of keys.")
            data = {}
        self._data: Mapping[Any, Any] = data

    def text(self, key: str) -> str:
        value = self._take(key)
        if isinstance(value, str) and value:
            return value
        # An unquoted 580 or 0.24 in YAML is a number, and 0.10 would lose its zero.
        self._note(key, value, "It must be a text (in quotes if it looks like a number).")
        return ""

    def text_or_none(self, key: str) -> str | None:
        """As `text`, or an explicit null for "there is none"."""
        return None if self._is_null(key) else self.text(key)

    def number(self, key: str) -> float:
        """A number above 0."""
        value = self._take(key)
        if isinstance(value, NUMBER) and not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        self._note(key, value, "It must be a number above 0.")
        return 0.0

    def count(self, key: str) -> int:
        """A whole number above 0."""
        value = self._take(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self._note(key, value, "It must be a whole number above 0.")
        return 0

    def count_or_none(self, key: str) -> int | None:
        """As `count`, or an explicit null for "not known"."""
        return None if self._is_null(key) else self.count(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, not empty."""
        value = self._take(key)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        self._note(key, value, "It must be a list of texts (numbers among them in quotes).")
        return ()

    def choice(self, key: str, valid: tuple[str, ...]) -> str:
        value = self._take(key)
        if isinstance(value, str) and value in valid:
            return value
        self._note(key, value, f"Valid: {', '.join(valid)}.")
        return valid[0]

    def table(self, key: str) -> "Table":
        return Table(self._take(key), self._problems, f"{self._path}{key}.")

    def table_or_none(self, key: str) -> "Table | None":
        """As `table`, or an explicit null for "there is none"."""
        return None if self._is_null(key) else self.table(key)

    def names(self) -> tuple[str, ...]:
        return tuple(str(key) for key in self._data)

    def close(self) -> None:
        """Note each key that nobody asked for, beside those that somebody did."""
        for key in self._data:
            if key not in self._taken:
                valid = f"No such key. Valid: {', '.join(sorted(self._taken))}."
                self._note(str(key), self._data[key], valid)

    def _is_null(self, key: str) -> bool:
        if key in self._data and self._data[key] is None:
            self._taken.add(key)
            return True
        return False

    def _take(self, key: str) -> Any:
        self._taken.add(key)
        return self._data.get(key)

    def _note(self, key: str, value: object, right: str) -> None:
        self._problems.append(Problem(f"{self._path}{key}".rstrip("."), value, right))
