"""Lists: filter, order, pages, and the aggregated form."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from local.rest.compute.catalogue import REGIONS, ZONES
from local.rest.compute.filters import matches, parse
from local.rest.compute.links import link
from local.rest.errors import ApiError
from local.rest.service import Call

DEFAULT_PAGE = 500


def listed(call: Call, kind: str, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """One page of a list, filtered and ordered as the query asks."""
    page, token = _page(call, _ordered(call, _filtered(call, items)))
    answer: dict[str, Any] = {"kind": kind, "id": path, "selfLink": link(path)}
    if page:
        answer["items"] = page
    if token:
        answer["nextPageToken"] = token
    return answer


def aggregated(
    call: Call, kind: str, collection: str, items: list[dict[str, Any]], *, field: str = ""
) -> dict[str, Any]:
    """One page of an aggregated list: every scope is named, empty ones with a warning."""
    path = f"projects/{call.world.project}/aggregated/{collection}"
    page, token = _page(call, _ordered(call, _filtered(call, items)))
    scopes: dict[str, dict[str, Any]] = {}
    for item in page:
        scopes.setdefault(scope_of(item), {}).setdefault(field or collection, []).append(item)
    for scope in _scopes(items, collection):
        scopes.setdefault(scope, _empty(scope))
    answer = {"kind": kind, "id": path, "selfLink": link(path), "items": scopes}
    if token:
        answer["nextPageToken"] = token
    return answer


def scope_of(item: dict[str, Any]) -> str:
    """ "zones/z", "regions/r" or "global", from the item's own links."""
    for name in ("zone", "region"):
        if name in item:
            return f"{name}s/{item[name].rsplit('/', 1)[-1]}"
    return "global"


def _scopes(items: list[dict[str, Any]], collection: str) -> list[str]:
    zones, regions = [f"zones/{z}" for z in ZONES], [f"regions/{r}" for r in REGIONS]
    if collection in ("instances", "disks", "machineTypes"):
        return zones
    return [*regions, *zones] if collection == "operations" else regions


def _empty(scope: str) -> dict[str, Any]:
    return {
        "warning": {
            "code": "NO_RESULTS_ON_PAGE",
            "message": f"There are no results for scope '{scope}' on this page.",
            "data": [{"key": "scope", "value": scope}],
        }
    }


def _filtered(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    text = call.query.get("filter")
    if not text:
        return items
    tree = parse(text)
    return [item for item in items if matches(tree, item)]


def _ordered(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = call.query.get("orderBy")
    if not order:
        return items
    if order not in ("name", "creationTimestamp desc"):
        raise ApiError(400, f"Invalid value for field 'orderBy': '{order}'.", reason="invalid")
    name = order.partition(" ")[0]
    return sorted(
        items,
        key=lambda i: str(i.get(name) or i.get("insertTime", "")),
        reverse=order.endswith("desc"),
    )


def _page(call: Call, items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    size = int(call.query.get("maxResults") or DEFAULT_PAGE)
    if not 0 <= size <= DEFAULT_PAGE:
        raise ApiError(
            400,
            f"Invalid value for field 'maxResults': '{size}'. Values must be within the range: "
            f"[0, {DEFAULT_PAGE}]",
            reason="invalid",
        )
    start = _start(call.query.get("pageToken"))
    end = start + (size or DEFAULT_PAGE)
    return items[start:end], _token(end) if end < len(items) else None


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(f"start:{start}".encode()).decode()


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).decode().removeprefix("start:"))
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            400, f"Invalid value for field 'pageToken': '{token}'.", reason="invalid"
        ) from error
