"""The limits of Compute that a local cloud knows, by their ids in Cloud Quotas."""

from __future__ import annotations

from collections.abc import Mapping

from local.rest.words import words

REGIONS = words(
    "us-central1 us-east1 us-east4 us-east5 us-west1 us-west4 europe-west1 europe-west4 "
    "asia-southeast1"
)
FAMILIES = ("NVIDIA_H100", "NVIDIA_H100_MEGA", "NVIDIA_H200", "NVIDIA_B200")
# What a project that was granted eight 8-GPU machines of each kind sees.
GRANTED = 64
OWN_QUOTAS = ("A100-80GB", "A100", "L4")
PREEMPTIBLE = ("H100", "H100-MEGA", "H200", "B200", *OWN_QUOTAS)
UNLIMITED = -1
Limits = dict[str, list[tuple[dict[str, str], int]]]


def born() -> Limits:
    """The limits that a local cloud begins with."""
    regional = {
        "LOCAL-SSD-TOTAL-GB": 48_000,
        "SSD-TOTAL-GB": 81_920,
        **{f"NVIDIA-{word}-GPUS": GRANTED for word in OWN_QUOTAS},
        **{f"PREEMPTIBLE-NVIDIA-{word}-GPUS": GRANTED for word in PREEMPTIBLE},
    }
    return {
        "GPUS-ALL-REGIONS-per-project": [({}, 2 * GRANTED)],
        "CPUS-ALL-REGIONS-per-project": [({}, 8192)],
        "GPUS-PER-GPU-FAMILY-per-project-region": [
            ({"region": r, "gpu_family": f}, GRANTED) for r in REGIONS for f in FAMILIES
        ],
    } | {
        f"{name}-per-project-region": [({"region": r}, value) for r in REGIONS]
        for name, value in regional.items()
    }


def limit(limits: Limits, quota_id: str, dimensions: Mapping[str, str]) -> int | None:
    """The value of the most particular entry that fits; None: no such limit is listed."""
    fitting = [
        (len(d), value)
        for d, value in limits.get(quota_id, [])
        if all(dimensions.get(k) == v for k, v in d.items())
    ]
    return max(fitting)[1] if fitting else None


def put(limits: Limits, quota_id: str, region: str, value: int) -> None:
    """Set a limit in one region, or ("") wherever it is listed; LookupError: there is none."""
    entries = limits.get(quota_id, [])
    fitting = [d for d, _ in entries if not region or d.get("region") == region]
    if not fitting and entries and "region" in entries[0][0]:
        fitting = [{"region": region}]
    if not fitting:
        raise LookupError(f"no quota {quota_id}" + (f" in {region}" if region else ""))
    kept = [(d, v) for d, v in entries if region and d.get("region") != region]
    limits[quota_id] = kept + [(d, value) for d in fitting]
