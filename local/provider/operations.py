"""Long operations: asked at once, then every poll interval, until they are done or have failed."""

from __future__ import annotations

from typing import Any

from .client import ApiError, Call, Client
from .values import Object

DONE = "DONE"


class OperationError(Exception):
    """An operation ended in an error; the text is what the provider makes of it."""


def wait_compute(client: Client, operation: Object, scope: str) -> Object:
    """Follow a compute operation. scope: "projects/P/zones/Z", ".../regions/R" or ".../global"."""
    first = True
    while operation.get("status") != DONE:
        if not first:
            client.wait(client.settings.poll_s)
        first = False
        path = f"{scope}/operations/{operation['name']}"
        operation = client.call(Call("compute", "GET", path))
    if errors := (operation.get("error") or {}).get("errors"):
        raise OperationError("".join(_compute_error(error) for error in errors))
    if operation.get("httpErrorStatusCode"):
        raise OperationError(str(operation.get("httpErrorMessage", "")))
    return operation


def _detail(error: Object, key: str) -> Any:
    return next((entry[key] for entry in error.get("errorDetails", []) if entry.get(key)), None)


def _compute_error(error: Object) -> str:
    """Message, localized message, first help link and quota: in this order, nothing else."""
    text = f"{error.get('message', '')}\n"
    localized, help_links = _detail(error, "localizedMessage"), _detail(error, "help")
    if localized and localized.get("message"):
        text += f"\n\n{localized['message']}\n"
    if help_links and help_links.get("links"):
        first = help_links["links"][0]
        text += "\n\n" + "".join(
            f"{first[key]}\n" for key in ("description", "url") if first.get(key)
        )
    quota = _detail(error, "quotaInfo")
    if quota and error.get("code") == "QUOTA_EXCEEDED":
        text += _quota(quota)
    return text


def _quota(quota: Object) -> str:
    dimensions = " ".join(f"{k}:{v}" for k, v in sorted((quota.get("dimensions") or {}).items()))
    return (
        f"\tmetric name = {quota.get('metricName', '')}\n"
        f"\tlimit name = {quota.get('limitName', '')}\n"
        + (f"\tdimensions = map[{dimensions}]\n" if dimensions else "")
    )


def wait_long(client: Client, service: str, operation: Object) -> Object:
    """Follow a google.longrunning operation; the answer is its response."""
    first = True
    while not operation.get("done"):
        if not first:
            client.wait(client.settings.poll_s)
        first = False
        operation = client.call(Call(service, "GET", operation["name"]))
    if error := operation.get("error"):
        raise OperationError(f"Error code {error.get('code')}, message: {error.get('message', '')}")
    return dict(operation.get("response") or {})


def is_missing(error: Exception) -> bool:
    """Whether Google says that the thing is not there."""
    return isinstance(error, ApiError) and error.status == 404
