"""networks and subnetworks."""

from __future__ import annotations

import ipaddress
from typing import Any

from local.rest.compute.links import fingerprint, link
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.operations import at_once
from local.rest.compute.service import method, place
from local.rest.compute.store import Store
from local.rest.errors import ApiError
from local.rest.service import Call

ROUTING = {"routingMode": "REGIONAL", "bgpBestPathSelectionMode": "LEGACY"}


@method("networks.insert")
def insert_network(call: Call) -> dict[str, Any]:
    """A custom mode network, or an auto mode one with a subnetwork in each region."""
    store = call.world.of(Store)
    auto = call.body.get("autoCreateSubnetworks", True)
    network = store.new(
        "global",
        "networks",
        call.body
        | {
            "autoCreateSubnetworks": auto,
            "routingConfig": ROUTING | call.body.get("routingConfig", {}),
            "networkFirewallPolicyEnforcementOrder": call.body.get(
                "networkFirewallPolicyEnforcementOrder", "AFTER_CLASSIC_FIREWALL"
            ),
        },
    )
    network["selfLinkWithId"] = link(store.path("global", "networks", network["id"]))
    if auto:
        store.add_auto_subnetworks(network)
    return at_once(call, "insert", network)


def _network(call: Call) -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path("global", "networks", call["network"]))


@method("networks.get")
def get_network(call: Call) -> dict[str, Any]:
    """A network, with its subnetworks' links."""
    return _shown(call, _network(call))


def _shown(call: Call, network: dict[str, Any]) -> dict[str, Any]:
    subnets = [
        s["selfLink"]
        for s in call.world.of(Store).all("subnetworks")
        if s["network"] == network["selfLink"]
    ]
    return network | ({"subnetworks": subnets} if subnets else {})


@method("networks.list")
def list_networks(call: Call) -> dict[str, Any]:
    """The project's networks."""
    networks = [_shown(call, n) for n in call.world.of(Store).all("networks")]
    path = f"projects/{call.world.project}/global/networks"
    return listed(call, "compute#networkList", path, networks)


@method("networks.patch")
def patch_network(call: Call) -> dict[str, Any]:
    """What of a network may change in place."""
    network = _network(call)
    fixed = set(call.body) - {"routingConfig", "networkFirewallPolicyEnforcementOrder", "name"}
    if changed := sorted(n for n in fixed if call.body[n] != network.get(n)):
        raise ApiError(
            400,
            f"Invalid value for field 'resource.{changed[0]}': '{call.body[changed[0]]}'. "
            "The field cannot be changed.",
            reason="invalid",
        )
    return at_once(call, "patch", network, lambda: network.update(call.body))


@method("networks.delete")
def delete_network(call: Call) -> dict[str, Any]:
    """A network that nothing uses; an auto mode network takes its subnetworks with it."""
    store, network = call.world.of(Store), _network(call)
    store.refuse_while_used(network, "firewalls", "routers", "instances")
    subnets = [s for s in store.all("subnetworks") if s["network"] == network["selfLink"]]
    if not network["autoCreateSubnetworks"]:
        store.refuse_while_used(network, "subnetworks")

    def work() -> None:
        for resource in [*subnets, network]:
            store.remove(resource)

    return at_once(call, "delete", network, work)


@method("subnetworks.insert")
def insert_subnetwork(call: Call) -> dict[str, Any]:
    """A subnetwork of a custom mode network, in a range that no other has."""
    store = call.world.of(Store)
    if not call.body.get("name"):
        raise ApiError(400, "Required field 'resource.name' not specified", reason="required")
    network = store.referenced(call.body.get("network", ""), "resource.network", "global/networks")
    if network["autoCreateSubnetworks"]:
        raise ApiError(
            400,
            f"Cannot create a subnetwork in auto subnet mode network '{network['name']}'",
            reason="invalid",
        )
    block = _range(call.body.get("ipCidrRange", ""), "resource.ipCidrRange")
    _refuse_overlap(store, network, block)
    subnet = store.new(
        place(call),
        "subnetworks",
        {
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
            "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
            "privateIpGoogleAccess": False,
            "allowSubnetCidrRoutesOverlap": False,
        }
        | call.body
        | {"network": network["selfLink"], "gatewayAddress": str(block.network_address + 1)},
    )
    _stamp(subnet)
    return at_once(call, "insert", subnet)


def _range(text: str, field: str) -> ipaddress.IPv4Network:
    try:
        block = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{text}'. Must be a valid IP CIDR range: {error}",
            reason="invalid",
        ) from error
    if block.prefixlen > 29:
        raise ApiError(
            400,
            f"Invalid value for field '{field}': '{text}'. Ip Cidr Range is too small, must be "
            "/29 or larger.",
            reason="invalid",
        )
    return block


def _refuse_overlap(store: Store, network: dict[str, Any], block: ipaddress.IPv4Network) -> None:
    for other in store.all("subnetworks"):
        taken = ipaddress.IPv4Network(other["ipCidrRange"])
        if other["network"] == network["selfLink"] and block.overlaps(taken):
            region = other["region"].rsplit("/", 1)[-1]
            raise ApiError(
                400,
                f"Invalid IPCidrRange: {block} conflicts with existing subnetwork "
                f"'{other['name']}' in region '{region}'.",
                reason="invalid",
            )


def _stamp(subnet: dict[str, Any]) -> None:
    subnet["fingerprint"] = fingerprint({k: v for k, v in subnet.items() if k != "fingerprint"})


def _subnetwork(call: Call) -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path(place(call), "subnetworks", call["subnetwork"]))


@method("subnetworks.get")
def get_subnetwork(call: Call) -> dict[str, Any]:
    """A subnetwork."""
    return _subnetwork(call)


@method("subnetworks.list")
def list_subnetworks(call: Call) -> dict[str, Any]:
    """A region's subnetworks."""
    found = call.world.of(Store).all("subnetworks", place(call))
    path = f"projects/{call.world.project}/{place(call)}/subnetworks"
    return listed(call, "compute#subnetworkList", path, found)


@method("subnetworks.aggregatedList")
def aggregated_subnetworks(call: Call) -> dict[str, Any]:
    """All subnetworks by region."""
    found = call.world.of(Store).all("subnetworks")
    return aggregated(call, "compute#subnetworkAggregatedList", "subnetworks", found)


@method("subnetworks.patch")
def patch_subnetwork(call: Call) -> dict[str, Any]:
    """Change a subnetwork in place, if the caller has seen the current one."""
    subnet = _subnetwork(call)
    if call.body.get("fingerprint") != subnet["fingerprint"]:
        raise ApiError(412, "Invalid fingerprint.")
    return at_once(call, "patch", subnet, lambda: _change(subnet, call.body))


def _change(subnet: dict[str, Any], body: dict[str, Any]) -> None:
    fixed = {"name", "network", "region", "ipCidrRange", "fingerprint", "id", "selfLink", "kind"}
    subnet.update({k: v for k, v in body.items() if k not in fixed})
    _stamp(subnet)


@method("subnetworks.setPrivateIpGoogleAccess")
def set_private_access(call: Call) -> dict[str, Any]:
    """Switch Private Google Access."""
    subnet = _subnetwork(call)
    on = call.body.get("privateIpGoogleAccess", False)
    return at_once(
        call,
        "setPrivateIpGoogleAccess",
        subnet,
        lambda: _change(subnet, {"privateIpGoogleAccess": on}),
    )


@method("subnetworks.delete")
def delete_subnetwork(call: Call) -> dict[str, Any]:
    """A subnetwork that no instance uses."""
    store, subnet = call.world.of(Store), _subnetwork(call)
    store.refuse_while_used(subnet, "instances", "addresses")
    return at_once(call, "delete", subnet, lambda: store.remove(subnet))
