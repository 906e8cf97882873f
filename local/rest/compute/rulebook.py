"""What firewall rules say of one packet.

Ingress only: Google lets everything out unless a rule forbids it, and none of ours does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from local.rest.compute.store import Store

if TYPE_CHECKING:
    from local.rest.world import World

NUMBERS = {"6": "tcp", "17": "udp", "1": "icmp"}


def of(world: World) -> Callable[[str, str, str, int], bool]:
    """Says, for two instances by their ids, protocol and port, whether the first may begin."""
    store = world.of(Store)

    def asked(source: str, target: str, protocol: str, port: int) -> bool:
        with world.lock:
            ends = {instance["id"]: instance for instance in store.all("instances")}
            if not {source, target} <= ends.keys():
                return False
            return permits(store.all("firewalls"), ends[source], ends[target], (protocol, port))

    return asked


def permits(
    rules: Iterable[dict[str, Any]],
    source: dict[str, Any],
    target: dict[str, Any],
    packet: tuple[str, int],
) -> bool:
    """By the first rule in order of priority, a refusal before a permission; else nothing comes in.

    packet: protocol and port, on the target.
    """
    network = target["networkInterfaces"][0]["network"]
    found = [
        rule
        for rule in rules
        if rule["network"] == network
        and rule["direction"] == "INGRESS"
        and not rule["disabled"]
        and _is_target(rule, target)
        and _is_source(rule, source)
        and any(covers(entry, packet) for entry in _entries(rule))
    ]
    first = min(found, key=lambda rule: (rule["priority"], "denied" not in rule), default=None)
    return first is not None and "denied" not in first


def _entries(rule: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rule.get("allowed") or rule.get("denied") or [])


def covers(entry: dict[str, Any], packet: tuple[str, int]) -> bool:
    """Whether an entry of a rule is about this protocol and port."""
    protocol, port = packet
    named = str(entry["IPProtocol"]).lower()
    if NUMBERS.get(named, named) not in (protocol, "all"):
        return False
    spans = [span.partition("-") for span in entry.get("ports", [])]
    return not spans or any(int(low) <= port <= int(high or low) for low, _, high in spans)


def _is_target(rule: dict[str, Any], instance: dict[str, Any]) -> bool:
    tags, accounts = rule.get("targetTags"), rule.get("targetServiceAccounts")
    if not tags and not accounts:
        return True
    return bool(_tags(instance) & set(tags or ()) or _accounts(instance) & set(accounts or ()))


def _is_source(rule: dict[str, Any], instance: dict[str, Any]) -> bool:
    """By range, tag or account: one that fits is enough."""
    address = ipaddress.ip_address(instance["networkInterfaces"][0]["networkIP"])
    return bool(
        _tags(instance) & set(rule.get("sourceTags", ()))
        or _accounts(instance) & set(rule.get("sourceServiceAccounts", ()))
        or any(address in ipaddress.ip_network(block) for block in rule.get("sourceRanges", ()))
    )


def _tags(instance: dict[str, Any]) -> set[str]:
    return set(instance.get("tags", {}).get("items", []))


def _accounts(instance: dict[str, Any]) -> set[str]:
    return {account["email"] for account in instance.get("serviceAccounts", [])}
