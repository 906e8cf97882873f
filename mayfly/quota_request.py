"""Asking Google for more quota: one request a limit, and what became of it."""

from typing import Any

from mayfly import names, quota
from mayfly.cloud import Cloud
from mayfly.quota import Need

JUSTIFICATION = "One VM with all of these GPUs, for hours at a time, to serve one language model."


def send(cloud: Cloud, need: Need, email: str, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """Make or raise one request; never lowers one."""
    config = {"quotaConfig": {"preferredValue": str(need.least)}, "contactEmail": email}
    config |= {"justification": JUSTIFICATION}
    if earlier:
        return cloud.quotas.change(str(earlier["name"]), config)
    which = {"service": quota.SERVICE, "quotaId": need.quota_id}
    place = {"dimensions": dict(need.dimensions)} if need.dimensions else {}
    return cloud.quotas.request(preference_id(need), config | which | place)


def preference_id(need: Need) -> str:
    """The same for the same limit: whoever asks twice asks once."""
    limit = need.quota_id.partition("-per-")[0]
    words = ["mayfly", limit, *(need.dimensions[key] for key in sorted(need.dimensions))]
    return names.slug("-".join(words).replace("_", "-"))


def key(preference: dict[str, Any]) -> tuple[str, ...]:
    """Which limit a request is about."""
    dimensions = preference.get("dimensions") or {}
    return str(preference.get("quotaId")), *(f"{k}={dimensions[k]}" for k in sorted(dimensions))


def need_key(need: Need) -> tuple[str, ...]:
    return key({"quotaId": need.quota_id, "dimensions": need.dimensions})


def preferred(preference: dict[str, Any] | None) -> int:
    return int(((preference or {}).get("quotaConfig") or {}).get("preferredValue") or 0)


def told(preference: dict[str, Any]) -> dict[str, Any]:
    """A request as we tell it. state: waiting, granted or refused (in part)."""
    config = preference.get("quotaConfig") or {}
    granted, asked = int(config.get("grantedValue") or 0), preferred(preference)
    state = "granted" if granted >= asked else "refused"
    if preference.get("reconciling"):
        state = "waiting"
    return {
        "quota_id": str(preference.get("quotaId")),
        "dimensions": preference.get("dimensions") or {},
        "asked": asked,
        "granted": granted,
        "state": state,
        "detail": str(config.get("stateDetail") or ""),
    }
