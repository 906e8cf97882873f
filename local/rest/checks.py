"""Request and answer checks against a discovery document's schemas.

A request is refused as Google refuses it: unknown fields, wrong types and enum values, missing
required fields. What is accepted comes back cleaned: nulls dropped, int64 as strings, so that
answers made of it carry the types that Google's answers carry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from local.rest.discovery import Document, Method
from local.rest.errors import ApiError, Style, bad_request

LONG = {"int64", "uint64"}
MARKED_IN_VAIN = {"storage.buckets.setIamPolicy"}  # an empty policy is written without bindings
GOOGLE_TYPE = {
    "boolean": "TYPE_BOOL",
    "int32": "TYPE_INT32",
    "uint32": "TYPE_UINT32",
    "int64": "TYPE_INT64",
    "uint64": "TYPE_UINT64",
    "byte": "TYPE_BYTES",
    "double": "TYPE_DOUBLE",
    "float": "TYPE_FLOAT",
    "string": "TYPE_STRING",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request. `field` is the path as Google writes it."""

    field: str
    text: str
    reason: str = "invalid"


class Checker:
    """Checks one request body (or one answer) and collects every problem."""

    def __init__(self, method: Method, style: Style) -> None:
        self._method = method
        self._document: Document = method.document
        self._style = style
        self.problems: list[Problem] = []

    def body(self, body: Any) -> Any:
        """The cleaned body; problems are in `self.problems`."""
        name = self._method.request
        if name is None:
            return None
        if body is None:
            body = {}
        schema = self._document.schemas[name]
        if not isinstance(body, dict):
            self.problems.append(
                Problem(
                    "",
                    'Invalid JSON payload received. Unknown name "": '
                    "Root element must be a message.",
                )
            )
            return {}
        return self._object(body, schema, self._root(name))

    def _root(self, schema: str) -> str:
        """Where Google says a field of the body is: resources have a name, requests have none."""
        if self._style is Style.LEGACY:
            return "resource"
        return "" if schema.endswith("Request") else _snake(schema)

    def _value(self, value: Any, schema: dict[str, Any], at: str) -> Any:
        if "$ref" in schema:
            schema = self._document.schemas[schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "object":
            if not isinstance(value, dict):
                return self._wrong(value, schema, at)
            return self._object(value, schema, at)
        if kind == "array":
            if not isinstance(value, list):
                return self._wrong(value, schema, at)
            # A list's own pattern is about its items.
            inner = {**schema["items"], **{k: schema[k] for k in ("pattern",) if k in schema}}
            return [
                self._value(item, inner, f"{at}[{i}]")
                for i, item in enumerate(value)
                if item is not None
            ]
        return self._scalar(value, schema, at) if kind != "any" else value

    def _object(self, value: dict[str, Any], schema: dict[str, Any], at: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        clean: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in properties else _camel(key)
            if name in properties:
                if item is None or _blank_enum(item, properties[name]):
                    continue
                clean[name] = self._value(item, properties[name], self._join(at, name))
            elif extra is not None:
                if item is not None:
                    clean[key] = self._value(item, extra, self._join(at, key))
            else:
                self._unknown(key, at)
        self._required(clean, properties, at)
        return clean

    def _required(self, clean: dict[str, Any], properties: dict[str, Any], at: str) -> None:
        if self._method.http == "PATCH" or self._method.id in MARKED_IN_VAIN:
            return  # the documents mark some fields, Google does not want them
        for name, schema in properties.items():
            needed = self._method.id in schema.get("annotations", {}).get("required", [])
            if needed and clean.get(name) in (None, ""):
                where = self._join(at, name)
                if self._style is Style.LEGACY and name == "name" and "pattern" in schema:
                    text = (
                        f"Invalid value for field '{where}': ''. Must be a match of regex "
                        f"'{schema['pattern']}'"
                    )
                else:
                    text = f"Required field '{where}' not specified"
                self.problems.append(Problem(where, text, "required"))

    def _scalar(self, value: Any, schema: dict[str, Any], at: str) -> Any:
        form = schema.get("format", "")
        if form in LONG or schema["type"] == "integer":
            return self._integer(value, schema, at)
        if schema["type"] == "boolean":
            return value if isinstance(value, bool) else self._wrong(value, schema, at)
        if schema["type"] == "number":
            good = isinstance(value, int | float) and not isinstance(value, bool)
            return value if good else self._wrong(value, schema, at)
        if not isinstance(value, str):
            return self._wrong(value, schema, at)
        if "enum" in schema and value not in schema["enum"]:
            return self._wrong_enum(value, at)
        if self._style is Style.LEGACY and "pattern" in schema:
            self._pattern(value, schema["pattern"], at)
        return value

    def _pattern(self, value: str, pattern: str, at: str) -> None:
        if value and not re.fullmatch(pattern, value):
            text = (
                f"Invalid value for field '{at}': '{value}'. Must be a match of regex '{pattern}'"
            )
            self.problems.append(Problem(at, text))

    def _integer(self, value: Any, schema: dict[str, Any], at: str) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, float) and value.is_integer():
            value, whole = int(value), True
        if not whole and not (isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value)):
            return self._wrong(value, schema, at)
        return str(value) if schema["type"] == "string" else int(value)

    def _join(self, at: str, name: str) -> str:
        name = name if self._style is Style.LEGACY else _snake(name)
        return f"{at}.{name}" if at else name

    def _unknown(self, key: str, at: str) -> None:
        where = f" at '{at}'" if at else ""
        text = f'Invalid JSON payload received. Unknown name "{key}"{where}: Cannot find field.'
        self.problems.append(Problem(at, text, "badRequest"))

    def _wrong(self, value: Any, schema: dict[str, Any], at: str) -> None:
        kind = schema.get("format") or schema.get("type", "")
        named = f"type.googleapis.com/{schema.get('id', kind)}"
        shown = GOOGLE_TYPE.get(kind, "TYPE_STRING") if kind not in ("object", "array") else named
        text = f"Invalid value at '{at}' ({shown}), {_shown(value)}"
        self.problems.append(Problem(at, text))

    def _wrong_enum(self, value: str, at: str) -> None:
        product = self._document.name.partition(".")[0]
        last = _camel(at.rsplit(".", 1)[-1].split("[")[0])
        kind = f"type.googleapis.com/google.cloud.{product}.{last[:1].upper()}{last[1:]}"
        self.problems.append(Problem(at, f"Invalid value at '{at}' ({kind}), \"{value}\""))


def check_body(method: Method, body: Any, style: Style) -> Any:
    """The cleaned body, or the 400 that Google would answer."""
    checker = Checker(method, style)
    clean = checker.body(body)
    _refuse(checker.problems, style)
    return clean


def check_path(method: Method, params: dict[str, str], style: Style) -> None:
    """Refuse a path variable that does not match the document's pattern."""
    for name, spec in method.parameters.items():
        value = params.get(name)
        if spec.get("location") != "path" or value is None or "pattern" not in spec:
            continue
        if re.fullmatch(spec["pattern"], value):
            continue
        if style is Style.LEGACY:
            raise ApiError(
                400,
                f"Invalid value for field '{name}': '{value}'. "
                f"Must be a match of regex '{spec['pattern']}'",
                reason="invalid",
            )
        raise ApiError(404, "Method not found.")


def check_query(method: Method, query: dict[str, str], style: Style) -> dict[str, str]:
    """The query by the document's names, or the 400 that Google would answer."""
    problems: list[Problem] = []
    clean: dict[str, str] = {}
    for key, value in query.items():
        spec = method.parameters.get(key) or method.parameters.get(_camel(key))
        if spec is None or spec.get("location") != "query":
            if key not in method.document.parameters and key not in ("alt", "prettyPrint"):
                problems.append(Problem(key, _unbound(key)))
            continue
        name = key if key in method.parameters else _camel(key)
        if value and "enum" in spec and value not in spec["enum"]:
            problems.append(Problem(key, f"Invalid value at '{_snake(name)}', \"{value}\""))
        clean[name] = value
    problems += [
        Problem(name, f"Required parameter: {name}", "required")
        for name, spec in method.parameters.items()
        if spec.get("location") == "query" and spec.get("required") and not clean.get(name)
    ]
    _refuse(problems, style)
    return clean


def _unbound(key: str) -> str:
    return (
        f'Invalid JSON payload received. Unknown name "{key}": Cannot bind query parameter. '
        f"Field '{key}' could not be found in request message."
    )


def _refuse(problems: list[Problem], style: Style) -> None:
    if not problems:
        return
    if style is Style.RPC:
        raise bad_request([(p.field, p.text) for p in problems])
    raise ApiError(400, "\n".join(p.text for p in problems), reason=problems[0].reason)


def shape_answer(answer: Any, document: Document, schema: str | None) -> tuple[Any, list[str]]:
    """The answer with int64 as strings and without nulls; and the fields the schema lacks.

    Fields that the schema lacks are left out: a v1 reader must not see what only beta has.
    """
    unknown: list[str] = []
    if schema is None or answer is None:
        return answer, unknown
    return _shape(answer, document.schemas[schema], document, schema, unknown), unknown


def _shape(value: Any, schema: dict[str, Any], doc: Document, at: str, unknown: list[str]) -> Any:
    if "$ref" in schema:
        schema = doc.schemas[schema["$ref"]]
    if isinstance(value, dict) and schema.get("type") == "object":
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        out = {}
        for key, item in value.items():
            inner = properties.get(key, extra)
            if inner is None:
                unknown.append(f"{at}.{key}")
            elif item is not None:
                out[key] = _shape(item, inner, doc, f"{at}.{key}", unknown)
        return out
    if isinstance(value, list) and schema.get("type") == "array":
        return [_shape(v, schema["items"], doc, f"{at}[]", unknown) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and schema.get("format") in LONG:
        return str(value) if schema.get("type") == "string" else value
    return value


def _blank_enum(value: Any, schema: dict[str, Any]) -> bool:
    """ "" stands for "not set" in an enum; a list keeps its own check."""
    return value == "" and "enum" in schema


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(t[:1].upper() + t[1:] for t in tail)


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
