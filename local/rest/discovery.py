"""Routes, read from Google's discovery documents.

The documents ship in google-api-python-client; one that is missing there may be put in
`local/rest/documents/` under the same name (`<product>.<version>.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from googleapiclient import discovery_cache

OWN = Path(__file__).parent / "documents"
GOOGLE = Path(discovery_cache.__file__).parent / "documents"


@dataclass(frozen=True)
class Method:
    """One REST method of one document."""

    id: str
    http: str
    flat_path: str
    path: re.Pattern[str]
    parameters: dict[str, dict[str, Any]]
    request: str | None
    response: str | None
    document: Document


@dataclass(frozen=True)
class Document:
    """A discovery document. `name` e.g. "compute.v1"."""

    name: str
    schemas: dict[str, dict[str, Any]]
    parameters: dict[str, dict[str, Any]]
    methods: dict[str, Method] = field(default_factory=dict, repr=False)

    def __hash__(self) -> int:
        return hash(self.name)


@cache
def load(name: str) -> Document:
    """The document called `name`; FileNotFoundError when nobody ships it."""
    file = f"{name}.json"
    raw = json.loads(((OWN if (OWN / file).exists() else GOOGLE) / file).read_text("utf-8"))
    document = Document(name, raw["schemas"], raw.get("parameters", {}))
    for method in _methods(raw):
        document.methods[method["id"]] = Method(
            id=method["id"],
            http=method["httpMethod"],
            flat_path=method.get("flatPath", method["path"]),
            path=_template(method["path"]),
            parameters=method.get("parameters", {}),
            request=method.get("request", {}).get("$ref"),
            response=method.get("response", {}).get("$ref"),
            document=document,
        )
    return document


def _methods(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for child in resource.get("resources", {}).values():
        yield from _methods(child)


def _template(path: str) -> re.Pattern[str]:
    """`v1/{+name}:addVersion` as a pattern with a group for each variable."""
    out = []
    for part in re.split(r"(\{\+?\w+\})", path):
        if part.startswith("{+"):
            out.append(f"(?P<{part[2:-1]}>.+?)")
        elif part.startswith("{"):
            # Compute's object names may hold "%2F", decoded before this pattern sees them.
            out.append(f"(?P<{part[1:-1]}>.+?)")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out), re.DOTALL)


class _Node:
    """A tree of path segments; `None` as a key stands for a variable."""

    def __init__(self) -> None:
        self.children: dict[str | None, _Node] = {}
        self.names: dict[str, str] = {}
        self.methods: dict[str, tuple[Method, list[str]]] = {}


@dataclass(frozen=True)
class Match:
    """A route that fits: its method and what its variables hold."""

    method: Method
    params: dict[str, str]


class Router:
    """All routes of all mounted documents."""

    def __init__(self) -> None:
        self._root = _Node()

    def mount(self, prefix: str, document: Document) -> None:
        """Serve every method of `document` under `prefix` ("/compute/beta/")."""
        for method in document.methods.values():
            node, names = self._root, []
            for piece in _pieces(prefix + method.flat_path):
                key: str | None = piece
                if piece.startswith("{"):
                    key = None
                    names.append(piece[1:-1].lstrip("+"))
                node = node.children.setdefault(key, _Node())
            node.methods.setdefault(method.http, (method, names))

    def match(self, http: str, raw_path: str) -> Match | None:
        """The method that `raw_path` (still percent-encoded) names, or None."""
        for pieces in _readings(raw_path):
            found = _walk(self._root, pieces, [])
            for node, values in found:
                if http in node.methods:
                    method, names = node.methods[http]
                    return Match(method, _params(method, names, values))
        return None


@cache
def router(mounts: tuple[tuple[str, str], ...]) -> Router:
    """The routes of (prefix, document name) pairs; made once, never changed."""
    made = Router()
    for prefix, name in mounts:
        made.mount(prefix, load(name))
    return made


def _walk(node: _Node, pieces: list[str], values: list[str]) -> Iterator[tuple[_Node, list[str]]]:
    if not pieces:
        yield node, values
        return
    head, rest = pieces[0], pieces[1:]
    if head in node.children:
        yield from _walk(node.children[head], rest, values)
    if None in node.children and not head.startswith(":") and head:
        yield from _walk(node.children[None], rest, [*values, unquote(head)])


def _pieces(path: str) -> list[str]:
    """Segments; a verb after the last segment's colon is a piece of its own, with its colon."""
    *init, last = path.strip("/").split("/")
    name, colon, verb = last.rpartition(":")
    return [*init, name, colon + verb] if colon and name else [*init, last]


def _readings(raw_path: str) -> Iterator[list[str]]:
    """A colon in the last segment may start a verb, or be part of a name."""
    plain = raw_path.strip("/").split("/")
    pieces = _pieces(raw_path)
    if pieces != plain:
        yield pieces
    yield plain


def _params(method: Method, names: list[str], values: list[str]) -> dict[str, str]:
    """Variables by flatPath's names (`secretsId`) and by path's (`name`), where they differ."""
    params = dict(zip(names, values, strict=True))
    filled = method.flat_path
    for name, value in params.items():
        filled = filled.replace("{" + name + "}", value, 1).replace("{+" + name + "}", value, 1)
    found = method.path.fullmatch(filled)
    return params | (found.groupdict() if found else {})
