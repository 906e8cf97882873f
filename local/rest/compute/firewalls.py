"""firewalls."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from local.rest.compute.listing import listed
from local.rest.compute.operations import at_once
from local.rest.compute.service import method
from local.rest.compute.store import Store
from local.rest.errors import ApiError
from local.rest.service import Call

TAG = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
PROTOCOLS = {"all", "tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip"}


@method("firewalls.insert")
def insert(call: Call) -> dict[str, Any]:
    """A rule on a network."""
    store = call.world.of(Store)
    rule = {"direction": "INGRESS", "priority": 1000, "disabled": False}
    rule |= {"logConfig": {"enable": False}, "network": "global/networks/default"}
    rule |= call.body
    sources = ("sourceRanges", "sourceTags", "sourceServiceAccounts")
    if rule["direction"] == "INGRESS" and not any(rule.get(s) for s in sources):
        rule["sourceRanges"] = ["0.0.0.0/0"]
    _check(store, rule)
    return at_once(call, "insert", store.new("global", "firewalls", rule))


def _check(store: Store, rule: dict[str, Any]) -> None:
    network = store.referenced(rule["network"], "resource.network", "global/networks")
    rule["network"] = network["selfLink"]
    allowed, denied = rule.get("allowed"), rule.get("denied")
    if bool(allowed) == bool(denied):
        raise _invalid("resource", "", "Exactly one of 'allowed' and 'denied' must be specified.")
    name = "allowed" if allowed else "denied"
    for i, entry in enumerate(allowed or denied or []):
        _check_entry(entry, f"resource.{name}[{i}]")
    for name in ("sourceRanges", "destinationRanges"):
        for i, block in enumerate(rule.get(name, [])):
            _check_range(block, f"resource.{name}[{i}]")
    for name in ("sourceTags", "targetTags"):
        for i, tag in enumerate(rule.get(name, [])):
            if not re.fullmatch(TAG, tag):
                rule_text = f"Must be a match of regex '{TAG}'"
                raise _invalid(f"resource.{name}[{i}]", tag, rule_text)
    if not 0 <= rule["priority"] <= 65535:
        raise _invalid(
            "resource.priority", rule["priority"], "Must be between 0 and 65535, inclusive"
        )
    if rule["direction"] == "EGRESS" and (rule.get("sourceTags") or rule.get("sourceRanges")):
        raise _invalid(
            "resource.direction", "EGRESS", "Egress rules cannot have source tags or ranges."
        )


def _check_entry(entry: dict[str, Any], field: str) -> None:
    protocol = str(entry.get("IPProtocol", ""))
    if protocol.lower() not in PROTOCOLS and not (protocol.isdigit() and int(protocol) < 256):
        raise _invalid(
            f"{field}.IPProtocol",
            protocol,
            "Must be a valid IP protocol number or one of the well known protocols.",
        )
    for i, ports in enumerate(entry.get("ports", [])):
        bounds = [int(p) for p in ports.split("-")] if re.fullmatch(r"\d+(-\d+)?", ports) else []
        if not bounds or max(bounds) > 65535 or bounds != sorted(bounds):
            raise _invalid(
                f"{field}.ports[{i}]", ports, "Ports must be an integer or a range of integers."
            )


def _check_range(block: str, field: str) -> None:
    try:
        ipaddress.ip_network(block)
    except ValueError as error:
        raise _invalid(field, block, "Must be a valid CIDR address range.") from error


def _invalid(field: str, value: Any, rule: str) -> ApiError:
    return ApiError(400, f"Invalid value for field '{field}': '{value}'. {rule}", reason="invalid")


def _firewall(call: Call) -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path("global", "firewalls", call["firewall"]))


@method("firewalls.get")
def get(call: Call) -> dict[str, Any]:
    """A rule."""
    return _firewall(call)


@method("firewalls.list")
def list_firewalls(call: Call) -> dict[str, Any]:
    """The project's rules."""
    found = call.world.of(Store).all("firewalls")
    return listed(
        call, "compute#firewallList", f"projects/{call.world.project}/global/firewalls", found
    )


@method("firewalls.patch", "firewalls.update")
def change(call: Call) -> dict[str, Any]:
    """Fields that are named change; an empty list or text clears one."""
    rule = _firewall(call)
    changed = rule | {k: v for k, v in call.body.items() if k not in ("id", "selfLink", "kind")}
    if changed["direction"] != rule["direction"]:
        raise _invalid("resource.direction", changed["direction"], "Direction cannot be changed.")
    _check(call.world.of(Store), changed)
    kind = call.method_id.rpartition(".")[2]
    return at_once(call, kind, rule, lambda: rule.update(changed))


@method("firewalls.delete")
def delete(call: Call) -> dict[str, Any]:
    """Remove a rule."""
    store, rule = call.world.of(Store), _firewall(call)
    return at_once(call, "delete", rule, lambda: store.remove(rule))
