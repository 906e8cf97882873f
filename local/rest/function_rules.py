"""What Google refuses in a function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from local.rest.bucket_rules import REGIONS
from local.rest.errors import ApiError
from local.rest.labels import check_labels
from local.rest.words import words

NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
RUNTIMES = frozenset(("python310", "python311", "python312", "python313", "python314"))
MEMORY = re.compile(r"(\d+(?:\.\d+)?)(k|Ki|M|Mi|G|Gi)?")
BYTES = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}
MOST_MEMORY = 32 * 2**30
LEAST_MEMORY = 128 * 10**6
RESERVED = frozenset(
    words(
        "FUNCTION_TARGET FUNCTION_SIGNATURE_TYPE K_SERVICE K_REVISION K_CONFIGURATION "
        "PORT ENTRY_POINT GCP_PROJECT "
        "GCLOUD_PROJECT GOOGLE_CLOUD_PROJECT FUNCTION_TRIGGER_TYPE FUNCTION_NAME "
        "FUNCTION_MEMORY_MB "
        "FUNCTION_TIMEOUT_SEC FUNCTION_IDENTITY FUNCTION_REGION"
    )
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Cloud Run: more memory wants more CPU.
CPU_FOR_MEMORY = ((4 * 2**30, 1.0), (8 * 2**30, 2.0), (16 * 2**30, 4.0), (24 * 2**30, 6.0))


def check_place(location: str, name: str) -> None:
    """400 or 403 for a region or a name that cannot be."""
    if location.upper() not in REGIONS:
        raise ApiError(403, f"Permission denied on 'locations/{location}' (or it may not exist).")
    if not NAME.fullmatch(name):
        raise ApiError(
            400,
            f"Invalid function name: {name}. Function names must start with a lowercase "
            "letter followed by up to 62 "
            "lowercase letters, numbers, or hyphens, and cannot end with a hyphen.",
        )


def check_function(function: Mapping[str, Any]) -> None:
    """400 for what Google would not deploy; `function` as it would become."""
    check_labels(function.get("labels", {}))
    build = function.get("buildConfig", {})
    if build.get("runtime") not in RUNTIMES:
        raise ApiError(400, f"Invalid value for buildConfig.runtime: {build.get('runtime', '')!r}.")
    if not build.get("entryPoint"):
        raise ApiError(400, "entry_point is required.")
    source = build.get("source", {}).get("storageSource", {})
    if not source.get("bucket") or not source.get("object"):
        raise ApiError(400, "build_config.source.storage_source needs a bucket and an object.")
    _check_service(function.get("serviceConfig", {}))


def _check_service(service: Mapping[str, Any]) -> None:
    _within("timeout_seconds", service.get("timeoutSeconds", 60), 1, 3600)
    concurrency = service.get("maxInstanceRequestConcurrency", 1)
    _within("max_instance_request_concurrency", concurrency, 1, 1000)
    _within("max_instance_count", service.get("maxInstanceCount", 1), 0, 3000)
    memory = memory_bytes(service.get("availableMemory", "256M"))
    cpu = _cpu(service.get("availableCpu", ""), memory)
    if concurrency > 1 and cpu < 1:
        raise ApiError(400, "Max instance request concurrency above 1 needs at least 1 CPU.")
    for limit, least in reversed(CPU_FOR_MEMORY):
        if memory > limit and cpu < least:
            raise ApiError(400, f"For the specified memory, at least {least:g} CPU must be given.")
    for name in service.get("environmentVariables", {}):
        if not VARIABLE.fullmatch(name) or name in RESERVED or name.startswith("X_GOOGLE_"):
            raise ApiError(400, f"Environment variable name {name} is reserved or invalid.")


def memory_bytes(text: str) -> int:
    """Of availableMemory, e.g. "4Gi"; 400 when Google takes no such amount."""
    found = MEMORY.fullmatch(text)
    size = float(found[1]) * BYTES[found[2] or ""] if found else 0
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise ApiError(400, f"Invalid value for available_memory: {text}.")
    return int(size)


def _cpu(text: str, memory: int) -> float:
    """Given, or what Google adds to that much memory."""
    if not text:
        return next((least for limit, least in reversed(CPU_FOR_MEMORY) if memory > limit), 1.0)
    try:
        cpu = float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
    except ValueError:
        cpu = 0.0
    if not (0.08 <= cpu <= 1 or cpu in (2, 4, 6, 8)):
        raise ApiError(400, f"Invalid value for available_cpu: {text}.")
    return cpu


def _within(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ApiError(
            400, f"Invalid value for {field}: {value}. It must be between {low} and {high}."
        )
