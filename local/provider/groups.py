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
    for group in table.header.get("exactly_one", []):
        parent = group[0].rpartition(".")[0]
        if parent and at(inputs, parent) in (None, UNKNOWN):
            continue
        found = [path for path in group if at(inputs, path) is not None]
        names = ",".join(snake(path) for path in group)
        if not found:
            yield (
                group[0],
                (
                    f'Invalid combination of arguments. "{snake(group[0])}": one of '
                    f"`{names}` must be specified"
                ),
            )
        elif len(found) > 1:
            both = ",".join(snake(path) for path in found)
            yield (
                found[0],
                (
                    f'Invalid combination of arguments. "{snake(found[0])}": only one of '
                    f"`{names}` can be specified, but `{both}` were specified."
                ),
            )
    for one, other in table.header.get("conflicts", []):
        if at(inputs, one) is not None and at(inputs, other) is not None:
            yield (
                one,
                (
                    f'Conflicting configuration arguments. "{snake(one)}": conflicts with '
                    f"{snake(other)}"
                ),
            )
    for path, wanted in table.header.get("requires", {}).items():
        if at(inputs, path) is not None and any(at(inputs, other) is None for other in wanted):
            names = ",".join(snake(other) for other in [path, *wanted])
            yield (
                path,
                f'Missing required argument. "{snake(path)}": all of `{names}` must be specified',
            )
    for path, names in table.header.get("not_empty", {}).items():
        value = at(inputs, path)
        if isinstance(value, dict) and not (set(value) & set(names) if names else value):
            yield (
                path,
                (
                    f'Missing required argument. "{snake(path)}": one of its arguments must '
                    f"be specified"
                ),
            )
