"""Inputs as the program wrote them -> inputs with defaults, or what the provider would refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from . import groups, rules
from .groups import Problem, snake
from .messages import Checked, Request
from .schema import Field, Table
from .values import UNKNOWN, Object, has_unknown, is_asset

DEFAULTS = "__defaults"
ENGINE_KEYS = frozenset({DEFAULTS, "__meta", "__internal"})


def check(table: Table, request: Request) -> Checked:
    """Validate, then fill in defaults and the automatic name. Problems name the property's path."""
    given = {key: item for key, item in request.inputs.items() if key not in ENGINE_KEYS}
    inputs, problems = _object(table.inputs, given, "")
    _name(table, inputs, request)
    problems += list(groups.problems(table, inputs))
    problems += [
        (
            path,
            (
                f'Missing required argument. The argument "{snake(name)}" is required, '
                f"but no definition was found."
            ),
        )
        for path, name in _missing(table.inputs, inputs, "")
    ]
    if problems:
        name = request.urn.name
        reasons = [f"{text}. Examine values at '{name}.{path}'." for path, text in problems]
        return Checked(inputs={}, failures=reasons)
    return Checked(inputs=_with_defaults(table.inputs, inputs, _automatic(table, request)))


def _automatic(table: Table, request: Request) -> list[str]:
    given = request.inputs.get(table.name_field) if table.name_field else UNKNOWN
    return [table.name_field] if given is None else []


def _name(table: Table, inputs: Object, request: Request) -> None:
    """Fill in the URN's name and seven hex digits; an earlier automatic name is kept."""
    name = table.name_field
    if not name or name in inputs:
        return
    if name in (request.old_inputs.get(DEFAULTS) or []) and request.old_inputs.get(name):
        inputs[name] = request.old_inputs[name]
        return
    rule = table.header["name"]
    suffix = "-" + hashlib.sha256(request.seed or request.urn.text.encode()).hexdigest()[:7]
    stem = request.urn.name.lower() if rule.get("lower") else request.urn.name
    inputs[name] = stem[: rule.get("longest", 255) - len(suffix)] + suffix


def _object(fields: dict[str, Field], given: Object, path: str) -> tuple[Object, list[Problem]]:
    """Known, non-null values of an object, each checked."""
    kept: Object = {}
    problems: list[Problem] = []
    for name, value in given.items():
        here = f"{path}.{name}" if path else name
        if name in ENGINE_KEYS or value is None:
            continue
        if name not in fields:
            problems.append((here, "Invalid or unknown key"))
            continue
        kept[name], more = _value(fields[name], value, here)
        problems += more
    return kept, problems


def _value(item: Field, value: Any, path: str) -> tuple[Any, list[Problem]]:
    if value is UNKNOWN:
        return value, []
    if item.type == "object":
        if not isinstance(value, dict):
            return value, [(path, f"expected type 'object', got '{_kind(value)}'")]
        return _object(item.children, value, path)
    if item.type in ("objects", "objectset"):
        return _objects(item, value, path)
    if item.type in ("list", "set", "map"):
        return _plain_collection(item, value, path)
    if item.type == "asset":
        ok = is_asset(value)
        return value, [] if ok else [(path, "expected an Asset or an Archive")]
    return _scalar(item, value, path)


def _objects(item: Field, value: Any, path: str) -> tuple[Any, list[Problem]]:
    if not isinstance(value, list):
        return value, [(path, f"expected type 'list', got '{_kind(value)}'")]
    kept, problems = [], _count(item, value, path)
    for index, element in enumerate(value):
        here = f"{path}[{index}]"
        if element is UNKNOWN:
            kept.append(element)
            continue
        if not isinstance(element, dict):
            problems.append((here, f"expected type 'object', got '{_kind(element)}'"))
            continue
        entry, more = _object(item.children, element, here)
        kept.append(entry)
        problems += more
    return kept, problems


def _plain_collection(item: Field, value: Any, path: str) -> tuple[Any, list[Problem]]:
    wanted = dict if item.type == "map" else list
    if not isinstance(value, wanted):
        word = "map" if item.type == "map" else "list"
        return value, [(path, f"expected type '{word}', got '{_kind(value)}'")]
    problems = _count(item, value, path)
    elements = value.items() if isinstance(value, dict) else enumerate(value)
    for key, element in elements:
        if not isinstance(element, (str, bool, int, float)) and element is not UNKNOWN:
            problems.append((f"{path}[{key}]", "Attribute must be a single value"))
    problems += _checked(item, value, path)
    if isinstance(value, dict):
        return {
            k: v if isinstance(v, str) or v is UNKNOWN else _text(v) for k, v in value.items()
        }, problems
    return value, problems


def _count(item: Field, value: Any, path: str) -> list[Problem]:
    low, high = item.items
    if low and len(value) < low:
        return [
            (
                path,
                (
                    f"Not enough list items. Attribute {snake(path)} requires {low} item "
                    f"minimum, but config has only {len(value)} declared"
                ),
            )
        ]
    if high and len(value) > high:
        return [
            (
                path,
                (
                    f"Too many list items. Attribute {snake(path)} supports {high} item "
                    f"maximum, but config has {len(value)} declared"
                ),
            )
        ]
    return []


def _scalar(item: Field, value: Any, path: str) -> tuple[Any, list[Problem]]:
    converted = _converted(item.type, value)
    if converted is None:
        return value, [(path, f"expected type '{item.type}', got '{_kind(value)}'")]
    if item.one_of and converted not in item.one_of:
        allowed = " ".join(f'"{choice}"' for choice in item.one_of)
        return converted, [
            (path, f"expected {snake(item.name)} to be one of [{allowed}], got {converted}")
        ]
    return converted, _checked(item, converted, path)


def _checked(item: Field, value: Any, path: str) -> list[Problem]:
    if not item.check or has_unknown(value):
        return []
    text = rules.wrong(item.check, snake(item.name), value)
    return [(path, text)] if text else []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "list", dict: "map"}
    return names.get(type(value), type(value).__name__)


def _converted(kind: str, value: Any) -> Any:
    """A scalar in its type; text and numbers are converted as the bridge does. None: it cannot
    be."""
    if kind == "string":
        return (
            None
            if isinstance(value, (dict, list))
            else value
            if isinstance(value, str)
            else _text(value)
        )
    if kind == "bool":
        if isinstance(value, str):
            return {"true": True, "false": False}.get(value)
        return value if isinstance(value, bool) else None
    try:
        number = float(value) if not isinstance(value, (dict, list, bool)) else None
    except ValueError:
        return None
    if number is None or (kind == "int" and not number.is_integer()):
        return None
    return int(number) if number.is_integer() else number


def _missing(fields: dict[str, Field], values: Object, path: str) -> Iterator[tuple[str, str]]:
    for name, item in fields.items():
        here = f"{path}.{name}" if path else name
        value = values.get(name)
        if value is None:
            if item.required:
                yield here, name
        elif isinstance(value, dict) and item.type == "object":
            yield from _missing(item.children, value, here)
        elif isinstance(value, list) and item.children:
            for index, element in enumerate(value):
                if isinstance(element, dict):
                    yield from _missing(item.children, element, f"{here}[{index}]")


def _with_defaults(fields: dict[str, Field], values: Object, filled: list[str]) -> Object:
    """Defaults of what was left out, in every object that was given; their names go to
    `__defaults`."""
    result = dict(values)
    names = list(filled)
    for name, item in fields.items():
        value = result.get(name)
        if value is None and item.default is not None and (item.fill or item.default is not False):
            result[name] = item.default
            names.append(name)
        elif isinstance(value, dict) and item.type == "object":
            result[name] = _with_defaults(item.children, value, [])
        elif isinstance(value, list) and item.children:
            result[name] = [
                _with_defaults(item.children, entry, []) if isinstance(entry, dict) else entry
                for entry in value
            ]
    return {DEFAULTS: names, **result}


def without_defaults_key(value: Any) -> Any:
    """The same value without the bookkeeping of `__defaults`."""
    if is_asset(value):
        return value
    if isinstance(value, dict):
        return {k: without_defaults_key(v) for k, v in value.items() if k != DEFAULTS}
    if isinstance(value, list):
        return [without_defaults_key(entry) for entry in value]
    return value
