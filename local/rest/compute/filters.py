"""Compute's filter expressions: `labels.mayfly = session AND (status != TERMINATED)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from local.rest.errors import ApiError

TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\(|\)|!=|>=|<=|=|<|>|:|[^\s()=!<>:"]+)')
OPERATORS = {"=", "!=", ">", "<", ">=", "<=", ":", "eq", "ne"}


@dataclass(frozen=True)
class Test:
    """`field operator value`."""

    field: str
    operator: str
    value: str


@dataclass(frozen=True)
class Group:
    """`kind` over `parts`: "and", "or", "not"."""

    kind: str
    parts: tuple[Test | Group, ...]


Tree = Test | Group


def parse(text: str) -> Tree:
    """The expression; 400 with Google's words when it is none."""
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        found = TOKEN.match(text, position)
        if not found:
            raise _invalid(text)
        tokens.append(found[1])
        position = found.end()
    parser = _Parser(tokens, text)
    tree = parser.any_of()
    if parser.rest:
        raise _invalid(text)
    return tree


def _invalid(text: str) -> ApiError:
    return ApiError(
        400,
        f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.",
        reason="invalid",
    )


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self.rest = tokens
        self._text = text

    def any_of(self) -> Tree:
        parts = [self._all_of()]
        while self.rest and self.rest[0] == "OR":
            self.rest.pop(0)
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Group("or", tuple(parts))

    def _all_of(self) -> Tree:
        parts = [self._one()]
        while self.rest and self.rest[0] not in ("OR", ")"):
            if self.rest[0] == "AND":
                self.rest.pop(0)
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Group("and", tuple(parts))

    def _one(self) -> Tree:
        if not self.rest:
            raise _invalid(self._text)
        head = self.rest.pop(0)
        if head == "NOT":
            return Group("not", (self._one(),))
        if head == "(":
            inner = self.any_of()
            if not self.rest or self.rest.pop(0) != ")":
                raise _invalid(self._text)
            return inner
        if len(self.rest) < 2 or self.rest[0] not in OPERATORS or head in OPERATORS:
            raise _invalid(self._text)
        operator, value = self.rest.pop(0), self.rest.pop(0)
        # An unquoted time holds colons, which are tokens of their own.
        while operator != ":" and len(self.rest) > 1 and self.rest[0] == ":":
            value += self.rest.pop(0) + self.rest.pop(0)
        return Test(head, operator, value.strip('"').replace('\\"', '"'))


def matches(tree: Tree, item: dict[str, Any]) -> bool:
    """Whether the resource satisfies the expression."""
    if isinstance(tree, Group):
        if tree.kind == "not":
            return not matches(tree.parts[0], item)
        results = (matches(part, item) for part in tree.parts)
        return all(results) if tree.kind == "and" else any(results)
    values = _values(item, tree.field.split("."))
    if tree.operator in ("!=", "ne"):
        flipped = Test(tree.field, "=" if tree.operator == "!=" else "eq", tree.value)
        return not any(_holds(flipped, v) for v in values)
    return any(_holds(tree, v) for v in values)


def _values(item: Any, path: list[str]) -> list[Any]:
    """What the field holds; a list on the way yields each of its elements."""
    if isinstance(item, list):
        return [v for element in item for v in _values(element, path)]
    if not path:
        return [item]
    if not isinstance(item, dict) or path[0] not in item:
        return []
    return _values(item[path[0]], path[1:])


def _holds(test: Test, actual: Any) -> bool:
    text = str(actual).lower() if isinstance(actual, bool) else str(actual)
    wanted = test.value.lower() if isinstance(actual, bool) else test.value
    if test.operator == "eq":
        return re.fullmatch(wanted, text) is not None
    if test.operator == ":":
        return wanted == "*" or wanted.strip("*") in text
    if test.operator == "=":
        return text == wanted
    left, right = _comparable(text), _comparable(wanted)
    if type(left) is not type(right):
        return False
    return {
        ">": left > right,  # type: ignore[operator]
        "<": left < right,  # type: ignore[operator]
        ">=": left >= right,  # type: ignore[operator]
        "<=": left <= right,  # type: ignore[operator]
    }[test.operator]


def _comparable(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
