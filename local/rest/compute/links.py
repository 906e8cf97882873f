"""Resource links, times and fingerprints as Compute writes them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

ROOT = "https://www.googleapis.com/compute/v1/"
PACIFIC = timezone(timedelta(hours=-8))


def link(path: str) -> str:
    """The full link of `projects/p/...`."""
    return ROOT + path


def path_of(value: str, project: str, where: str) -> str:
    """`projects/p/...` for a full link, a relative one or a bare name.

    where: place and collection of a bare name, e.g. "global/networks".
    """
    found = re.search(r"(?:^|/)(projects/.+)$", value)
    if found:
        return found[1]
    if re.match(r"(global|zones|regions)/", value):
        return f"projects/{project}/{value}"
    return f"projects/{project}/{where}/{value}"


def last(value: str) -> str:
    """The last segment of a link."""
    return value.rsplit("/", 1)[-1]


def timestamp(seconds: float) -> str:
    """RFC 3339 in Pacific time with milliseconds, as Compute answers."""
    return datetime.fromtimestamp(seconds, PACIFIC).isoformat(timespec="milliseconds")


def fingerprint(value: Any) -> str:
    """Eight bytes that change with `value`, base64."""
    text = json.dumps(value, sort_keys=True)
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
