"""What Compute refuses in an instance, in its own words, and what it fills in."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from local.rest.compute.catalogue import MachineType, offered
from local.rest.compute.links import fingerprint, last, path_of
from local.rest.errors import ApiError

METADATA_VALUE = 256 * 1024
METADATA_TOTAL = 512 * 1024
SHORTEST_RUN_S = 30
LONGEST_RUN_S = 120 * 86400
LONGEST_FLEX_S = 7 * 86400
SHORTEST_WAIT_S = 90
LONGEST_WAIT_S = 7200
MOST_TAGS = 64


def invalid(field: str, value: Any, rule: str) -> ApiError:
    """The 400 with reason "invalid" that names a field of the request."""
    shown = str(value).lower() if isinstance(value, bool) else value
    return ApiError(400, f"Invalid value for field '{field}': '{shown}'. {rule}", reason="invalid")


def machine_type(value: str | None, project: str, zone: str, field: str) -> MachineType:
    """The machine type, if this zone has it."""
    if not value:
        raise ApiError(400, f"Required field '{field}' not specified", reason="required")
    name = last(value)
    path = path_of(value, project, f"zones/{zone}/machineTypes")
    if not re.fullmatch(r"projects/[^/]+/zones/[^/]+/machineTypes/[^/]+", path):
        raise invalid(field, value, "The URL is malformed.")
    if path.split("/")[3] != zone:
        raise invalid(field, value, f"Machine type must be in the same zone '{zone}'.")
    kind = offered(name, zone)
    if kind is None:
        raise invalid(
            field, value, f"Machine type with name '{name}' does not exist in zone '{zone}'."
        )
    return kind


def scheduling(given: dict[str, Any], kind: MachineType, field: str) -> dict[str, Any]:
    """The scheduling block as stored: checked, with Google's defaults."""
    result = dict(given)
    model = result.setdefault("provisioningModel", "STANDARD")
    short_lived = model == "SPOT" or result.get("preemptible", False)
    if model == "SPOT" and given.get("preemptible") is False:
        raise invalid(
            f"{field}.preemptible",
            False,
            "Scheduling must have preemptible be true when the provisioning model is SPOT.",
        )
    result["preemptible"] = short_lived
    _check_restart(result, short_lived, field)
    _check_maintenance(result, kind, short_lived, field)
    _check_life(result, short_lived, field)
    _check_model(result, kind)
    return {k: v for k, v in result.items() if v not in ([], False) or k in _ALWAYS}


_ALWAYS = ("automaticRestart", "preemptible")


def _check_restart(result: dict[str, Any], short_lived: bool, field: str) -> None:
    flex = result["provisioningModel"] == "FLEX_START"
    restart = result.setdefault("automaticRestart", not (short_lived or flex))
    if restart and short_lived:
        raise invalid(
            f"{field}.preemptible",
            True,
            "Scheduling must have preemptible be false when AutomaticRestart is true.",
        )
    if restart and flex:
        raise invalid(
            f"{field}.automaticRestart",
            True,
            "Automatic restart must be false for the FLEX_START provisioning model.",
        )


def _check_maintenance(
    result: dict[str, Any], kind: MachineType, short_lived: bool, field: str
) -> None:
    policy = result.setdefault("onHostMaintenance", "TERMINATE" if short_lived else "MIGRATE")
    if policy != "TERMINATE" and short_lived:
        raise invalid(
            f"{field}.preemptible",
            True,
            "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE.",
        )
    if policy != "TERMINATE" and kind.gpus:
        raise ApiError(400, "Instances with guest accelerators do not support live migration.")
    if policy == "TERMINATE" and kind.family == "e2" and not short_lived:
        raise ApiError(
            400,
            "e2 instances do not support onHostMaintenance=TERMINATE unless they are preemptible.",
        )


def _check_life(result: dict[str, Any], short_lived: bool, field: str) -> None:
    model, action = result["provisioningModel"], result.get("instanceTerminationAction")
    limited = "maxRunDuration" in result or "terminationTime" in result
    if action and model == "STANDARD" and not limited:
        raise invalid(
            f"{field}.instanceTerminationAction",
            action,
            "You cannot specify a termination action for a VM instance that has the standard "
            "provisioning model (default). To use instance termination action, the VM instance "
            "must use the Spot, Reservation-Bound or Flex Start provisioning model.",
        )
    if limited and not action:
        raise invalid(
            f"{field}.instanceTerminationAction",
            "",
            "The instance termination action must be specified for an instance with a time limit.",
        )
    if limited and short_lived and model != "SPOT":
        raise invalid(
            f"{field}.maxRunDuration", "", "A legacy preemptible VM cannot have a time limit."
        )
    if "maxRunDuration" in result:
        _check_run(result, model, field)
    if "terminationTime" in result:
        _check_time(result["terminationTime"], f"{field}.terminationTime")
    if model == "FLEX_START" and (action != "DELETE" or not limited):
        raise invalid(
            f"{field}.provisioningModel",
            model,
            "FLEX_START needs a maximum run duration and the termination action DELETE.",
        )
    if model == "SPOT" and not action:
        result["instanceTerminationAction"] = "STOP"


def _check_run(result: dict[str, Any], model: str, field: str) -> None:
    if "terminationTime" in result:
        raise invalid(
            f"{field}.maxRunDuration",
            "",
            "Only one of maxRunDuration and terminationTime can be set.",
        )
    seconds = int(result["maxRunDuration"].get("seconds", 0))
    longest = LONGEST_FLEX_S if model == "FLEX_START" else LONGEST_RUN_S
    if not SHORTEST_RUN_S <= seconds <= longest:
        raise invalid(
            f"{field}.maxRunDuration.seconds",
            seconds,
            f"The maximum run duration must be between {SHORTEST_RUN_S} seconds and "
            f"{longest // 86400} days.",
        )


def _check_time(text: str, field: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(field, text, "Must be a valid RFC 3339 timestamp.") from error


def _check_model(result: dict[str, Any], kind: MachineType) -> None:
    model = result["provisioningModel"]
    if model == "STANDARD" and not kind.on_demand and not result["preemptible"]:
        raise ApiError(
            400,
            f"Machine type {kind.name} is only available with the SPOT, FLEX_START or "
            "RESERVATION_BOUND provisioning model.",
        )
    if model == "FLEX_START" and not kind.gpus:
        raise ApiError(
            400, f"Machine type {kind.name} does not support the FLEX_START provisioning model."
        )


def run_limit_s(block: dict[str, Any]) -> float | None:
    """Seconds that the instance may run; None = no limit of this kind."""
    run = block.get("maxRunDuration")
    return int(run.get("seconds", 0)) + run.get("nanos", 0) / 1e9 if run else None


def capacity_wait_s(body: dict[str, Any], field: str) -> int:
    """How long a FLEX_START request waits for capacity; 0: it is answered at once."""
    wait = body.get("params", {}).get("requestValidForDuration")
    if wait is None:
        return 0
    seconds, at = int(wait.get("seconds", 0)), f"{field}.requestValidForDuration"
    if body.get("scheduling", {}).get("provisioningModel") != "FLEX_START":
        raise invalid(at, seconds, "It can be set for the FLEX_START provisioning model only.")
    if seconds and not SHORTEST_WAIT_S <= seconds <= LONGEST_WAIT_S:
        raise invalid(
            f"{at}.seconds",
            seconds,
            f"It must be 0 or between {SHORTEST_WAIT_S} and {LONGEST_WAIT_S} seconds.",
        )
    return seconds


def metadata(given: dict[str, Any], field: str) -> dict[str, Any]:
    """The metadata block as stored, within Google's limits."""
    items, total, keys = given.get("items", []), 0, set()
    for i, item in enumerate(items):
        key, value = item["key"], item.get("value", "")
        size = len(value.encode())
        total += size + len(key)
        if size > METADATA_VALUE:
            raise invalid(
                f"{field}.items[{i}].value",
                value[:30] + "...",
                f"Metadata value for key '{key}' is too large: maximum size {METADATA_VALUE} "
                f"character(s); actual size {size}.",
            )
        if key in keys:
            raise invalid(f"{field}.items[{i}].key", key, f"Duplicate metadata key '{key}'.")
        keys.add(key)
    if total > METADATA_TOTAL:
        raise invalid(
            f"{field}.items",
            "",
            f"Metadata is too large: maximum total size {METADATA_TOTAL} character(s); "
            f"actual size {total}.",
        )
    block: dict[str, Any] = {"kind": "compute#metadata", "fingerprint": fingerprint(items)}
    return block | ({"items": [dict(i) for i in items]} if items else {})


def value_of(block: dict[str, Any], key: str) -> str:
    """One metadata value, "" when it is not there."""
    return next((i.get("value", "") for i in block.get("items", []) if i["key"] == key), "")


def tags(given: dict[str, Any], field: str) -> dict[str, Any]:
    """The tags block as stored."""
    items = given.get("items", [])
    if len(items) > MOST_TAGS:
        raise invalid(f"{field}.items", "", f"There can be at most {MOST_TAGS} tags.")
    if len(set(items)) != len(items):
        raise invalid(f"{field}.items", "", "Tags must be unique.")
    block: dict[str, Any] = {"fingerprint": fingerprint(items)}
    return block | ({"items": list(items)} if items else {})


def service_accounts(given: list[dict[str, Any]], number: str, field: str) -> list[dict[str, Any]]:
    """Accounts as stored: one at most, "default" resolved, with at least one scope."""
    if len(given) > 1:
        raise invalid(field, "", "An instance can have one service account at most.")
    result = []
    for account in given:
        email = account.get("email", "default")
        if email == "default":
            email = f"{number}-compute@developer.gserviceaccount.com"
        if not account.get("scopes"):
            raise invalid(f"{field}[0].scopes", "", "At least one scope must be specified.")
        result.append({"email": email, "scopes": list(account["scopes"])})
    return result
