"""Pulumi properties <-> the REST resource, by the table."""

from __future__ import annotations

import copy
from typing import Any

from . import same
from .change import Change, empty
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
    """The request's JSON. An update leaves out what cannot change, and sends emptied lists and
    texts."""
    result: Object = {}
    for name, item in fields.items():
        value = values.get(name)
        if value is None and update and item.empty == "send":
            value = EMPTY.get(item.type)
        if value is None or value is UNKNOWN or not item.sent or item.output:
            continue
        if update and item.replace is True and not item.patch:
            continue
        converted = _sent(item, value, names)
        if _is_sent(item, converted):
            put(result, item.api_path, converted)
    return result


def _is_sent(item: Field, value: Any) -> bool:
    return item.empty == "send" or value not in ("", 0, False, [], {}, None)


def _sent(item: Field, value: Any, names: Names) -> Any:
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


def inputs_of(fields: dict[str, Field], values: Object) -> Object:
    """The part of a state that is inputs, without what is empty."""
    result: Object = {}
    for name, item in fields.items():
        value = values.get(name)
        value = value.value if isinstance(value, Secret) else value
        if item.output or empty(value):
            continue
        if item.type == "object":
            value = inputs_of(item.children, value)
        elif item.children:
            value = [inputs_of(item.children, entry) for entry in value]
        result[name] = value
    return result


def inputs_after(old: Object, drift: list[Change]) -> Object:
    """Inputs after a refresh: the old ones, except where the API now says something else."""
    result: Object = copy.deepcopy(old)
    for change in drift:
        *parents, leaf = _steps(change.path)
        node: Any = result
        for step in parents:
            node = node[step]
        actual = change.old  # the state just read stands on the old side of this difference
        if change.field.children and isinstance(actual, dict):
            actual = inputs_of(change.field.children, actual)
        elif change.field.children and isinstance(actual, list):
            actual = [inputs_of(change.field.children, entry) for entry in actual]
        if empty(actual):
            node.pop(leaf, None)
        else:
            node[leaf] = actual
    return result


def look_up(values: Any, path: str) -> Any:
    """The value at a path with list indexes; None where the path ends early."""
    for step in _steps(path):
        if isinstance(step, int):
            values = values[step] if isinstance(values, list) and step < len(values) else None
        else:
            values = values.get(step) if isinstance(values, dict) else None
    return values


def _steps(path: str) -> list[str | int]:
    words = path.replace("]", "").replace("[", ".").split(".")
    return [int(word) if word.isdigit() else word for word in words]
