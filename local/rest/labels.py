"""Label rules that all products but Compute share."""

from __future__ import annotations

import re
from collections.abc import Mapping

from local.rest.errors import ApiError

KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VALUE = re.compile(r"[a-z0-9_-]{0,63}")
LIMIT = 64


def check_labels(labels: Mapping[str, str], *, reason: str | None = None) -> None:
    """400 for more than 64 labels, or a key or value that Google does not take."""
    if len(labels) > LIMIT:
        raise ApiError(400, f"Too many labels: {len(labels)}. The limit is {LIMIT}.", reason=reason)
    for key, value in labels.items():
        if not KEY.fullmatch(key):
            raise ApiError(
                400,
                f"Label key '{key}' violates format constraints. The key must start with a "
                "lowercase letter, can "
                "only contain lowercase letters, numeric characters, underscores and "
                "dashes, and have a maximum "
                "length of 63 characters.",
                reason=reason,
            )
        if not VALUE.fullmatch(value):
            raise ApiError(
                400,
                f"Label value '{value}' for key '{key}' violates format constraints. The "
                "value can only contain "
                "lowercase letters, numeric characters, underscores and dashes, and have "
                "a maximum length of 63 "
                "characters.",
                reason=reason,
            )
