"""What Google refuses in a bucket."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from local.rest.errors import ApiError
from local.rest.labels import check_labels
from local.rest.words import words

NAME = re.compile(r"[a-z0-9](?:[-_.a-z0-9]*[a-z0-9])?")
MULTI_REGIONS = frozenset(("US", "EU", "ASIA"))
DUAL_REGIONS = frozenset(("NAM4", "EUR4", "ASIA1", "EUR5", "EUR7", "EUR8"))
REGIONS = frozenset(
    words(
        "africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 "
        "asia-northeast3 asia-south1 asia-south2 "
        "asia-southeast1 asia-southeast2 asia-southeast3 australia-southeast1 "
        "australia-southeast2 europe-central2 "
        "europe-north1 europe-north2 europe-southwest1 europe-west1 europe-west10 "
        "europe-west12 europe-west2 "
        "europe-west3 europe-west4 europe-west6 europe-west8 europe-west9 me-central1 "
        "me-central2 me-west1 "
        "northamerica-northeast1 northamerica-northeast2 northamerica-south1 "
        "southamerica-east1 southamerica-west1 "
        "us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 "
        "us-west4".upper()
    )
)
CLASSES = frozenset(
    words("STANDARD NEARLINE COLDLINE ARCHIVE MULTI_REGIONAL REGIONAL DURABLE_REDUCED_AVAILABILITY")
)
ACTIONS = frozenset(("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"))
ABORT_CONDITIONS = frozenset(("age", "matchesPrefix", "matchesSuffix"))
DAY_S = 86400


def check_name(name: str) -> None:
    """400 for a name that no bucket can have."""
    parts = name.split(".")
    longest = 63 if len(parts) == 1 else 222
    bad = (
        not NAME.fullmatch(name)
        or not 3 <= len(name) <= longest
        or any(not 1 <= len(p) <= 63 for p in parts)
        or any(p.startswith("-") or p.endswith("-") for p in parts)
        or _is_address(name)
        or name.startswith("goog")
        or "google" in name
    )
    if bad:
        raise ApiError(400, f"Invalid bucket name: '{name}'", reason="invalid")


def check_bucket(bucket: Mapping[str, Any]) -> None:
    """400 for what Google would not store; `bucket` as it would become."""
    location_type(bucket.get("location", "US"))
    if bucket.get("storageClass", "STANDARD") not in CLASSES:
        raise _invalid("The specified storage class is not valid.")
    check_labels(bucket.get("labels") or {}, reason="invalid")
    prevention = bucket.get("iamConfiguration", {}).get("publicAccessPrevention", "inherited")
    if prevention not in ("inherited", "enforced", "unspecified"):
        raise _invalid(f"Invalid value for publicAccessPrevention: {prevention}")
    soft = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if soft and not 7 * DAY_S <= soft <= 90 * DAY_S:
        raise _invalid("Soft delete retention duration must be 0 or between 7 and 90 days.")
    rules = bucket.get("lifecycle", {}).get("rule") or []
    if len(rules) > 100:
        raise _invalid("A lifecycle configuration can have at most 100 rules.")
    for rule in rules:
        _check_rule(rule)


def location_type(location: str) -> str:
    """ "region", "dual-region" or "multi-region"; 400 for a place that is none."""
    for kind, known in (
        ("region", REGIONS),
        ("multi-region", MULTI_REGIONS),
        ("dual-region", DUAL_REGIONS),
    ):
        if location.upper() in known:
            return kind
    raise _invalid("The specified location constraint is not valid.")


def _check_rule(rule: Mapping[str, Any]) -> None:
    action, condition = rule.get("action", {}), rule.get("condition", {})
    kind = action.get("type")
    if kind not in ACTIONS:
        raise _invalid(f"Invalid lifecycle action type: {kind}")
    if kind == "SetStorageClass" and action.get("storageClass") not in CLASSES:
        raise _invalid("SetStorageClass needs a valid storageClass.")
    if kind != "SetStorageClass" and action.get("storageClass"):
        raise _invalid(f"storageClass is not allowed with action {kind}.")
    if not condition:
        raise _invalid("A lifecycle rule must have at least one condition.")
    if kind == "AbortIncompleteMultipartUpload" and set(condition) - ABORT_CONDITIONS:
        raise _invalid(
            "AbortIncompleteMultipartUpload takes only age, matchesPrefix and matchesSuffix."
        )
    for field, value in condition.items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 0:
            raise _invalid(f"Lifecycle condition {field} must not be negative.")


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _invalid(text: str) -> ApiError:
    return ApiError(400, text, reason="invalid")
