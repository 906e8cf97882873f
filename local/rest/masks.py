"""Update masks and etags: which fields of a resource a PATCH changes, and whether it may."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from typing import Any

from local.rest.errors import ApiError


def paths(mask: str | None) -> list[str]:
    """A mask's paths in the document's spelling (camel case)."""
    return [_camel(p.strip()) for p in (mask or "").split(",") if p.strip()]


def new_etag() -> str:
    """Of a resource that has just changed."""
    return base64.b64encode(secrets.token_bytes(8)).decode()


def check_etag(
    held: dict[str, Any], given: dict[str, Any], text: str = "The etag does not match."
) -> None:
    """409 for a change of something that is no longer what its sender saw."""
    sent = given.get("etag")
    if sent and sent != held["etag"]:
        raise ApiError(409, text, status_text="ABORTED")


def apply_mask(
    held: dict[str, Any], given: dict[str, Any], mask: str | None, changeable: Collection[str]
) -> None:
    """Copy what `mask` names from `given` into `held`, or remove it; 400 for what cannot change.

    changeable: top-level fields. Without a mask the fields given are changed.
    """
    wanted = paths(mask)
    if mask is not None and not wanted:
        raise ApiError(400, "The update_mask must not be empty.")
    if not wanted:
        wanted = [k for k in given if k in changeable]
    for path in wanted:
        if path.split(".")[0] not in changeable:
            raise ApiError(400, f"Invalid update mask: field '{path}' cannot be updated.")
    for path in wanted:
        _copy(held, given, path.split("."))


def _copy(held: dict[str, Any], given: dict[str, Any], path: list[str]) -> None:
    *init, last = path
    for part in init:
        given = given.get(part) or {}
        held = held.setdefault(part, {})
    if last in given:
        held[last] = given[last]
    else:
        held.pop(last, None)


def _camel(path: str) -> str:
    head, *tail = path.split("_")
    return head + "".join(t[:1].upper() + t[1:] for t in tail)
