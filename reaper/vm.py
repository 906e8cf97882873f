"""One VM as Compute and its own metadata describe it. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mayfly import names
from mayfly.claims import amount, line, mapping, moment
from mayfly.idle import Limits

# The longest life that Google takes.
LONGEST_S = 120 * 86400.0
LAYERS = (names.SESSION, names.SEED)
# What a VM is held to when its settings are lost: the project's defaults, and a life that even
# the longest session would rather have written down.
DEFAULT_LIMITS = Limits(idle_s=1200, start_s=1800, failed_s=300, heartbeat_s=300, max_life_s=14400)
OUR_WORD = {theirs: ours for ours, theirs in names.PROVISIONING.items()}
KEPT_TEXT = (
    *("layer", "session", "profile", "started_by", "machine", "provisioning"),
    *("rate_source", "rate_date"),
)


@dataclass(frozen=True, kw_only=True)
class Vm:
    """A session's or seed's VM.

    id: Compute's number, never used again for another VM. created_at: Unix seconds.
    settings: what the program wrote about it (strings, and `hourly_usd`), checked one by one.
    attributes: its guest attributes; None = none yet. attributes_error: why they are not known.
    lease_until: Unix seconds; lease_known: False when the leases could not be read.
    """

    id: str
    name: str
    zone: str
    session: str
    status: str
    created_at: float
    limits: Limits
    settings: Mapping[str, Any]
    attributes: Mapping[str, str] | None = None
    attributes_error: str = ""
    lease_until: float | None = None
    lease_known: bool = True


def is_ours(instance: Mapping[str, Any]) -> bool:
    """True for what the reaper looks after, by label."""
    return instance.get("labels", {}).get(names.LABEL_LAYER) in LAYERS


def parse(instance: Mapping[str, Any]) -> Vm:
    """Read Compute's instance resource; ValueError says why it cannot be judged."""
    name = str(instance["name"])
    session = names.session_of(name)
    if session is None:
        raise ValueError(f"VM {name} carries our label but not our name: it is left alone")
    created_at = moment(instance.get("creationTimestamp"))
    if created_at is None:
        raise ValueError(f"VM {name} has no creation time")
    raw = mapping(_metadata(instance).get(names.SETTINGS_KEY))
    return Vm(
        id=str(instance["id"]),
        name=name,
        zone=last_part(instance["zone"]),
        session=session,
        status=str(instance.get("status", "")),
        created_at=created_at,
        limits=_limits(raw, _max_run_s(instance)),
        settings={**_facts(instance), **kept_settings(raw)},
    )


def kept_settings(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the ledger wants of `mayfly-settings`; a value of the wrong type is left out."""
    kept: dict[str, Any] = {key: line(raw.get(key)) for key in KEPT_TEXT}
    kept["hourly_usd"] = amount(raw.get("hourly_usd"))
    return {key: value for key, value in kept.items() if value is not None}


def last_part(link: object) -> str:
    """ "https://.../zones/us-east5-a" -> "us-east5-a"."""
    return str(link).rpartition("/")[2]


def _metadata(instance: Mapping[str, Any]) -> Mapping[str, str]:
    items = instance.get("metadata", {}).get("items", [])
    return {str(item.get("key")): str(item.get("value", "")) for item in items}


def _facts(instance: Mapping[str, Any]) -> dict[str, str]:
    """What Compute itself knows of what the settings say, for a VM whose settings are lost."""
    model = str(instance.get("scheduling", {}).get("provisioningModel"))
    found = {
        "layer": instance.get("labels", {}).get(names.LABEL_LAYER),
        "machine": last_part(instance.get("machineType", "")),
        "provisioning": OUR_WORD.get(model),
    }
    return {key: value for key, value in found.items() if value}


def _max_run_s(instance: Mapping[str, Any]) -> float | None:
    seconds = instance.get("scheduling", {}).get("maxRunDuration", {}).get("seconds")
    try:
        return amount(float(seconds))
    except (TypeError, ValueError):
        return None


def _limits(raw: Mapping[str, Any], max_run_s: float | None) -> Limits:
    """The VM's own limits; whoever edits its metadata cannot lift what Compute itself holds."""
    found = {
        key: min(value, LONGEST_S)
        for key in Limits.__dataclass_fields__
        if (value := amount(raw.get(key))) is not None
    }
    if "max_life_s" not in found and max_run_s is not None:
        found["max_life_s"] = max_run_s
    limits = replace(DEFAULT_LIMITS, **found)
    return replace(limits, max_life_s=min(limits.max_life_s, max_run_s or math.inf))
