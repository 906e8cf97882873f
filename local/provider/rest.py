"""Pulumi properties <-> the REST resource, by the table."""

from __future__ import annotations

from typing import Any

from . import same
from .change import empty
from .schema import Field
from .values import UNKNOWN, Object, Secret

EMPTY = {"string": "", "bool": False, "set": [], "list": [], "objects": [], "objectset": []}
SCOPES = ("project", "region", "zone")
Names = dict[str, str]  # project, region, zone, name ...: what addresses are made of


def put(target: Object, path: str, value: Any) -> None:
    """Set a dotted path, making objects on the way."""
    *parents, leaf = path.split(".")
    for name in parents:
        target = target.setdefault(name, {})
    target[leaf] = value


def pick(source: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for name in path.split("."):
        if not isinstance(source, dict):
            return None
        source = source.get(name)
    return source


def link(item: Field, value: str, names: Names) -> str:
    """A name or self link as the relative link that requests carry."""
    if not item.link or not value:
        return value
    if "/" in value:
        return same.relative(value)
    scopes = {letter: names.get(key, "") for letter, key in zip("prz", SCOPES, strict=True)}
    return item.link.format(v=value, **scopes)


def body(fields: dict[str, Field], values: Object, names: Names, *, update: bool = False) -> Object:
    """The request's JSON. An update leaves out what cannot change, and sends emptied lists and texts."""
    result: Object = {}
    for name, item in fields.items():
        value = values.get(name)
        if value is None and update and item.empty == "send":
            value = EMPTY.get(item.type)
        if value is None or value is UNKNOWN or not item.sent or item.output:
            continue
        if update and item.replace is True and not item.patch:
            continue
        converted = _sent(item, value, names, update)
        if _is_sent(item, converted, update):
            put(result, item.api_path, converted)
    return result


def _is_sent(item: Field, value: Any, update: bool) -> bool:
    return item.empty == "send" or value not in ("", 0, False, [], {}, None)


def _sent(item: Field, value: Any, names: Names, update: bool) -> Any:
    if item.type == "object":
        return body(item.children, value, names) if isinstance(value, dict) else value
    if item.children:
        return [body(item.children, entry, names) for entry in value if isinstance(entry, dict)]
    if item.type in ("list", "set") and item.link:
        return [link(item, entry, names) for entry in value]
    if item.wire == "string":
        return str(value)
    return link(item, value, names) if isinstance(value, str) else value


def state(fields: dict[str, Field], answer: Object, given: Object, names: Names) -> Object:
    """Outputs read from the API. `given`: inputs or old state, for what the API never tells."""
    return {name: _read(item, answer, given.get(name), names) for name, item in fields.items()}


def _read(item: Field, answer: Object, given: Any, names: Names) -> Any:
    if item.api == "url":
        return names.get(item.name, given)
    if item.api == "-":
        return _kept(item, given)
    value = pick(answer, item.api_path)
    converted = _converted(item, value, given, names)
    return Secret(converted) if item.secret and not isinstance(converted, Secret) else converted


def _kept(item: Field, given: Any) -> Any:
    value = given if given is not None else item.default
    if value is None and item.name == "deletionPolicy":
        value = "DELETE"
    if value is None and item.type == "bool" and item.default is False:
        value = False
    return Secret(value) if item.secret else value


def _converted(item: Field, value: Any, given: Any, names: Names) -> Any:
    if item.type == "object":
        if value is None:
            return None
        inner = given if isinstance(given, dict) else {}
        return state(item.children, value if isinstance(value, dict) else {}, inner, names)
    if item.children:
        before = given if isinstance(given, list) else []
        pairs = [
            (entry, before[i] if i < len(before) else {}) for i, entry in enumerate(value or [])
        ]
        return [state(item.children, e, g if isinstance(g, dict) else {}, names) for e, g in pairs]
    if item.type in ("list", "set"):
        return [same.as_v1(e) if isinstance(e, str) else e for e in value or []]
    if item.type == "map":
        return dict(value) if value else None
    return _scalar(item, value)


def _scalar(item: Field, value: Any) -> Any:
    if value is None:
        return item.zero
    if item.type == "int":
        return int(value)
    if item.type == "number":
        return float(value)
    if item.type == "string":
        text = value if isinstance(value, str) else str(value)
        return same.last(text) if item.read == "last" else same.as_v1(text)
    return value


def inputs_from(fields: dict[str, Field], read: Object, old: Object | None) -> Object:
    """Inputs after a refresh: the old ones, except where the API now says something else.

    `old` None (an import): every input that has a value.
    """
    result: Object = {}
    if old is not None and "__defaults" in old:
        result["__defaults"] = old["__defaults"]
    for name, item in fields.items():
        value = read.get(name)
        value = value.value if isinstance(value, Secret) else value
        if item.output or (old is not None and old.get(name) is None):
            continue
        before = None if old is None else old[name]
        fresh = _input(item, value, before)
        if not (old is None and empty(fresh)):
            result[name] = fresh
    return result


def _input(item: Field, value: Any, before: Any) -> Any:
    from .change import changes  # the comparison that decides what is drift

    if before is not None and not changes(
        {item.name: item}, {item.name: before}, {item.name: value}
    ):
        return before
    if item.type == "object" and isinstance(value, dict):
        return inputs_from(item.children, value, before if isinstance(before, dict) else None)
    if item.children and isinstance(value, list):
        return [
            inputs_from(item.children, entry, None) for entry in value if isinstance(entry, dict)
        ]
    return value
