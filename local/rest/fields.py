"""Partial answers: the `fields` query parameter (`services/name,nextPageToken`, `a(b,c)`)."""

from __future__ import annotations

from typing import Any

from local.rest.errors import ApiError

Tree = dict[str, "Tree"]


def masked(answer: Any, fields: str | None) -> Any:
    """Only what `fields` names; everything when it is empty."""
    if not fields:
        return answer
    tree, rest = _parse(fields)
    if rest:
        raise ApiError(400, f"Invalid field selection {fields}", reason="invalidParameter")
    return _pick(answer, tree)


def _parse(text: str) -> tuple[Tree, str]:
    tree: Tree = {}
    while text and text[0] != ")":
        end = next((i for i, c in enumerate(text) if c in ",()/"), len(text))
        name, text = text[:end], text[end:]
        inner: Tree = {}
        if text[:1] == "/":
            inner, text = _parse_one(text[1:])
        elif text[:1] == "(":
            inner, text = _parse(text[1:])
            if text[:1] != ")":
                raise ApiError(400, "Invalid field selection", reason="invalidParameter")
            text = text[1:]
        tree[name] = inner
        text = text.removeprefix(",")
    return tree, text


def _parse_one(text: str) -> tuple[Tree, str]:
    """What follows a slash: one name with its own tail, up to the next comma."""
    end = next((i for i, c in enumerate(text) if c in ",)"), len(text))
    if "(" in text[:end]:
        close = text.index(")") + 1
        return _parse(text[:close])[0], text[close:]
    return _parse(text[:end])[0], text[end:]


def _pick(value: Any, tree: Tree) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_pick(v, tree) for v in value]
    if isinstance(value, dict):
        return {k: _pick(v, tree[k]) for k, v in value.items() if k in tree}
    return value
