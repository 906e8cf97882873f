"""Single-value checks that the provider makes before anything is sent. Each returns what is
wrong, or ""."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import Any

BUCKET_LABEL = re.compile(r"^[a-z0-9_-]{1,63}$")
ROTATION = re.compile(r"^([0-9]+(?:\.[0-9]{1,9})?)s$")
MEMBER = re.compile(r"^[^:]+:.+$")
SERVICE_ACCOUNT = re.compile(
    r"^projects/[^/]+/serviceAccounts/"
    r"([a-z0-9-]{6,30}@[a-z0-9.:-]+\.iam\.gserviceaccount\.com"
    r"|[0-9]+-compute@developer\.gserviceaccount\.com|[^@/]+@[a-z0-9-]+\.gserviceaccount\.com)$"
)
PUBLIC_MEMBERS = ("allUsers", "allAuthenticatedUsers")
FORBIDDEN_HEADERS = re.compile(r"^(content-length|x-google-.*|x-appengine-.*)$", re.IGNORECASE)


def wrong(check: str, name: str, value: Any) -> str:
    """What the check (a table's `check`) says about a value, or "". `name` is the provider's own
    name of it."""
    kind, _, bounds = check.partition(" ")
    if kind == "range":
        return _range(name, value, bounds)
    if kind == "length":
        low, high = (int(word) for word in bounds.split(".."))
        return (
            ""
            if low <= len(value) <= high
            else (f"expected length of {name} to be in the range ({low} - {high}), got {value}")
        )
    if kind == "name":
        return _name(name, value, bounds)
    return _RULES[kind](name, value)


def _range(name: str, value: int, bounds: str) -> str:
    low, _, high = bounds.partition("..")
    if high and not int(low) <= value <= int(high):
        return f"expected {name} to be in the range ({low} - {high}), got {value}"
    if not high and value < int(low):
        return f"expected {name} to be at least ({low}), got {value}"
    return ""


def _name(name: str, value: str, bounds: str) -> str:
    low, high = (int(word) for word in (bounds or "1..63").split(".."))
    pattern = rf"^(?:[a-z](?:[-a-z0-9]{{{max(low - 2, 0)},{high - 2}}}[a-z0-9])" + (
        "?)$" if low == 1 else ")$"
    )
    if re.fullmatch(pattern[1:-1], value):
        return ""
    return f'"{name}" ("{value}") doesn\'t match regexp "{pattern}"'


def _cidr(name: str, value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return f"expected {name} to contain a valid network Value, got: {value}"
    return "" if "/" in value else f"expected {name} to contain a valid CIDR, got: {value}"


def _asn(name: str, value: int) -> str:
    if value == 16550 or 64512 <= value <= 65534 or 4200000000 <= value <= 4294967294:
        return ""
    return f"expected {name} to be a RFC6996-compliant Local ASN: [{value}]"


def _role_id(name: str, value: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", value):
        return ""
    return f'"{name}" ("{value}") doesn\'t match regexp "^[a-zA-Z0-9_\\\\.]{{3,64}}$"'


def _dotted(name: str, value: str) -> str:
    if value == "bigquery-json.googleapis.com":
        return f"expected {name} to not be any of [bigquery-json.googleapis.com], got {value}"
    return (
        "" if "." in value else f"expected {name} to be a domain like serviceusage.googleapis.com"
    )


def _base64(name: str, value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return f"expected {name} to be a base64 string, got {value}"
    return ""


def _labels(name: str, value: dict[str, str]) -> str:
    for key in value:
        if not BUCKET_LABEL.match(key):
            return (
                f'"{key}" is an invalid label key: lower case letters, digits, _ and -, at most 63'
            )
    return ""


def _member(name: str, value: str) -> str:
    if value.startswith("deleted:"):
        return (
            f"invalid value for {name} (Terraform does not support IAM members for "
            f"deleted principals)"
        )
    if value in PUBLIC_MEMBERS or MEMBER.match(value):
        return ""
    return (
        f"invalid value for {name} ({value}): expected a member with its type, "
        f"as user:, serviceAccount:, group:"
    )


def _service_account(name: str, value: str) -> str:
    if SERVICE_ACCOUNT.match(value):
        return ""
    return f'"{name}" ("{value}") doesn\'t match regexp "{SERVICE_ACCOUNT.pattern}"'


def _rotation(name: str, value: str) -> str:
    match = ROTATION.match(value)
    if match is None:
        return (
            f"{name} must be a duration in seconds with up to nine fractional "
            f"digits and an ending 's'"
        )
    if float(match[1]) < 86400:
        return f"{name} must be greater than 86400s, got {value}"
    return ""


def _headers(name: str, value: dict[str, str]) -> str:
    for key in value:
        if FORBIDDEN_HEADERS.match(key):
            return (
                f"{name}: cannot set the Content-Length, X-Google-* or X-AppEngine-* header ({key})"
            )
    return ""


_RULES: dict[str, Callable[[str, Any], str]] = {
    "cidr": _cidr,
    "asn": _asn,
    "role-id": _role_id,
    "dotted": _dotted,
    "base64": _base64,
    "bucket-labels": _labels,
    "iam-member": _member,
    "sa-id": _service_account,
    "rotation": _rotation,
    "headers": _headers,
}
