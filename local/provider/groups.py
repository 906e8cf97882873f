"""Rules between properties of a resource: exactly one of, not together, only with, not empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .schema import Table
from .values import UNKNOWN, Object

Problem = tuple[str, str]  # path, text


def snake(name: str) -> str:
    """The provider's own spelling of a property (maxRunDuration -> max_run_duration)."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def at(values: Object, path: str) -> Any:
    """The value at a dotted path, or None."""
    node: Any = values
    for name in path.split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(name)
    return node


def problems(table: Table, inputs: Object) -> Iterator[Problem]:
    """Rules between properties: exactly one of, not together, only with, not empty."""
    header = table.header
    yield from _not_exactly_one(header.get("exactly_one", []), inputs)
    yield from _together(header.get("conflicts", []), inputs)
    yield from _without(header.get("requires", {}), inputs)
    yield from _empty(header.get("not_empty", {}), inputs)


def _not_exactly_one(groups: list[list[str]], inputs: Object) -> Iterator[Problem]:
    for group in groups:
        parent = group[0].rpartition(".")[0]
        if parent and at(inputs, parent) in (None, UNKNOWN):
            continue
        found = [path for path in group if at(inputs, path) is not None]
        names = _spelled(group)
        if not found:
            said = f"one of `{names}` must be specified"
            yield group[0], f'Invalid combination of arguments. "{snake(group[0])}": {said}'
        elif len(found) > 1:
            said = (
                f"only one of `{names}` can be specified, but `{_spelled(found)}` were specified."
            )
            yield found[0], f'Invalid combination of arguments. "{snake(found[0])}": {said}'


def _together(pairs: list[list[str]], inputs: Object) -> Iterator[Problem]:
    for one, other in pairs:
        if at(inputs, one) is not None and at(inputs, other) is not None:
            said = f'"{snake(one)}": conflicts with {snake(other)}'
            yield one, f"Conflicting configuration arguments. {said}"


def _without(needs: dict[str, list[str]], inputs: Object) -> Iterator[Problem]:
    for path, wanted in needs.items():
        if at(inputs, path) is not None and any(at(inputs, other) is None for other in wanted):
            said = f"all of `{_spelled([path, *wanted])}` must be specified"
            yield path, f'Missing required argument. "{snake(path)}": {said}'


def _empty(blocks: dict[str, list[str]], inputs: Object) -> Iterator[Problem]:
    for path, names in blocks.items():
        value = at(inputs, path)
        if isinstance(value, dict) and not (set(value) & set(names) if names else value):
            said = "one of its arguments must be specified"
            yield path, f'Missing required argument. "{snake(path)}": {said}'


def _spelled(paths: list[str]) -> str:
    return ",".join(snake(path) for path in paths)
