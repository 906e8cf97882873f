"""What an update would change: the state that is meant (the plan), and where it differs from the
old one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import same
from .schema import COLLECTIONS, Field
from .values import UNKNOWN, Object, has_unknown, is_asset

INDEX = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Change:
    """One difference. `field` is the property that differs (the list itself where its length
    does)."""

    path: str
    field: Field
    old: Any
    new: Any

    @property
    def kind(self) -> str:
        if empty(self.old):
            return "add"
        return "delete" if empty(self.new) else "update"

    @property
    def top(self) -> str:
        """The property of the resource that it is in."""
        return INDEX.sub("", self.path).split(".")[0]

    @property
    def plain_path(self) -> str:
        """The path as tables write it, without list indexes."""
        return INDEX.sub("", self.path)


def empty(value: Any) -> bool:
    """What the provider cannot tell from "not set"."""
    if isinstance(value, dict):
        return not is_asset(value) and all(empty(entry) for entry in value.values())
    return value is None or value == "" or value == 0 or value == []


def plan(fields: dict[str, Field], inputs: Object, old: Object | None) -> Object:
    """The whole state that these inputs mean: what is not given is kept where the API may have
    set it.

    `old` None: a creation; then what only the API can tell is UNKNOWN.
    """
    return {name: _planned(item, inputs.get(name), old) for name, item in fields.items()}


def _planned(item: Field, given: Any, old: Object | None) -> Any:
    before = old.get(item.name) if old is not None else None
    if given is None or item.output:
        if item.default is not None:
            return item.default
        if item.computed or item.name == "deletionPolicy":
            return UNKNOWN if old is None else before
        return None
    if isinstance(given, dict) and item.type == "object":
        inner = before if isinstance(before, dict) else {}
        return plan(item.children, given, None if old is None else inner)
    if isinstance(given, list) and item.children:
        return [
            _planned_entry(item, entry, index, before, old) for index, entry in enumerate(given)
        ]
    if old is not None and item.same and same.equal(item.same, before, given):
        return before
    return given


def _planned_entry(item: Field, entry: Any, index: int, before: Any, old: Object | None) -> Any:
    if not isinstance(entry, dict):
        return entry
    if old is None:
        return plan(item.children, entry, None)
    known = item.type == "objects" and isinstance(before, list) and index < len(before)
    return plan(item.children, entry, before[index] if known else {})


def changes(fields: dict[str, Field], inputs: Object, old: Object, path: str = "") -> list[Change]:
    """Every difference between the old state and what the inputs mean."""
    found: list[Change] = []
    for name, item in fields.items():
        if item.output or item.write_only:
            continue
        here = f"{path}.{name}" if path else name
        found += _changes_of(item, inputs.get(name), old.get(name), here)
    return found


def _changes_of(item: Field, new: Any, old: Any, path: str) -> Iterator[Change]:
    if new is None and item.default is not None:
        new = item.default
    if new is None and item.computed:
        return
    if has_unknown(new) and not (item.children and new is not UNKNOWN):
        yield Change(path, item, old, new)
    elif item.type == "object":
        yield from _object(item, new, old, path)
    elif item.type == "objects":
        yield from _list(item, new, old, path)
    elif item.type in COLLECTIONS:
        if _canonical(item, new) != _canonical(item, old):
            yield Change(path, item, old, new)
    elif item.type == "asset":
        if _content(new) != _content(old):
            yield Change(path, item, old, new)
    elif not (empty(new) and empty(old)) and not same.equal(item.same, old, new):
        yield Change(path, item, old, new)


def _object(item: Field, new: Any, old: Any, path: str) -> Iterator[Change]:
    if new is None or old is None:
        only_one = (new is None) != (old is None)
        if only_one and not (new is None and empty(old)):
            yield Change(path, item, old, new)
        return
    yield from changes(item.children, new, old, path)


def _list(item: Field, new: Any, old: Any, path: str) -> Iterator[Change]:
    before, after = old or [], new or []
    if len(before) != len(after):
        yield Change(path, item, old, new)
        return
    for index, (was, wanted) in enumerate(zip(before, after, strict=True)):
        yield from changes(item.children, wanted, was, f"{path}[{index}]")


def _canonical(item: Field, value: Any) -> Any:
    """A set, list or map in a form that compares by meaning."""
    if item.type == "map":
        return {key: entry for key, entry in (value or {}).items() if entry is not None}
    entries = value or []
    if item.type == "list":
        return entries
    if item.type == "set":
        return sorted(str(entry) for entry in entries)
    return sorted(
        json.dumps(_entry(item.children, e), sort_keys=True, default=str) for e in entries
    )


def _entry(fields: dict[str, Field], entry: Object) -> Object:
    """An element of a set, without what is empty and with links shortened."""
    result = {}
    for name, item in fields.items():
        value = entry.get(name)
        if value is None:
            value = item.default
        if empty(value):
            continue
        if item.children and isinstance(value, list):
            value = [_entry(item.children, inner) for inner in value]
        elif item.children and isinstance(value, dict):
            value = _entry(item.children, value)
        elif item.type == "set":
            value = sorted(value)
        elif item.same == "case":
            value = value.lower()
        elif item.same == "link":
            value = same.last(value)
        result[name] = value
    return result


def _content(asset: Any) -> Any:
    """What tells two assets apart: the engine's hash of the content, and the path that names it."""
    if not isinstance(asset, dict):
        return None
    return asset.get("hash"), asset.get("path"), asset.get("uri")


def not_ignored(found: list[Change], ignored: tuple[str, ...]) -> list[Change]:
    """The changes that the program's ignoreChanges leaves."""
    paths = [INDEX.sub("", path) for path in ignored]
    return [c for c in found if not any(_covers(path, c.plain_path) for path in paths)]


def _covers(ignored: str, path: str) -> bool:
    return path == ignored or path.startswith(f"{ignored}.")


Decide = Callable[[Change], bool]


def replaces(found: list[Change], decide: Decide) -> list[Change]:
    """The changes that need a new resource; `decide` answers for those whose table says "maybe"."""
    return [c for c in found if _is_replacing(c, decide)]


def _is_replacing(change: Change, decide: Decide) -> bool:
    if change.field.replace == "maybe":
        return decide(change)
    return bool(change.field.replace) or _new_in_added(change)


def _new_in_added(change: Change) -> bool:
    """An object that appears with a property that cannot be set later."""
    if change.field.type != "object" or not isinstance(change.new, dict):
        return False
    children = change.field.children
    return any(
        children[name].replace is True and not empty(value)
        for name, value in change.new.items()
        if name in children and value != children[name].default
    )
