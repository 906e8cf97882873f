"""Labels: Google's rules, and the fingerprint that guards a change."""

from __future__ import annotations

import re
from typing import Any

from local.rest.compute.links import fingerprint
from local.rest.errors import ApiError
from local.rest.service import Call

MOST = 64
KEY_RULE = (
    "The key must start with a lowercase character, can only contain lowercase letters, numeric "
    "characters, underscores and dashes. The key can be at most 63 characters long. "
    "International characters are allowed."
)
VALUE_RULE = (
    "The value can only contain lowercase letters, numeric characters, underscores and dashes. "
    "The value can be at most 63 characters long. International characters are allowed."
)


def check_labels(labels: dict[str, str], field: str = "resource.labels") -> None:
    """Refuse labels that Google refuses."""
    start = f"Invalid value for field '{field}': ''."
    for key, value in labels.items():
        if not re.fullmatch(r"[^\W\d_A-Z][\w-]{0,62}", key) or key != key.lower():
            raise _refused(f"{start} Label key '{key}' violates format constraints. {KEY_RULE}")
        if not re.fullmatch(r"[\w-]{0,63}", value) or value != value.lower():
            raise _refused(
                f"{start} Label value '{value}' violates format constraints. {VALUE_RULE}"
            )
    if len(labels) > MOST:
        raise _refused(f"{start} Too many labels: at most {MOST} are allowed.")


def _refused(text: str) -> ApiError:
    return ApiError(400, text, reason="invalid")


def wanted_labels(call: Call, resource: dict[str, Any]) -> dict[str, str]:
    """The labels of a setLabels request, if the caller has seen the current ones."""
    labels: dict[str, str] = call.body.get("labels", {})
    check_labels(labels, "labels")
    if call.body.get("labelFingerprint") != resource.get("labelFingerprint"):
        raise ApiError(412, "Labels fingerprint either invalid or resource labels have changed")
    return labels


def give_labels(resource: dict[str, Any], labels: dict[str, str]) -> None:
    """Put labels and their fingerprint on a resource; no labels = no field."""
    resource.pop("labels", None)
    if labels:
        resource["labels"] = dict(labels)
    resource["labelFingerprint"] = fingerprint(labels)
