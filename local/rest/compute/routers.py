"""routers (with their NATs) and addresses."""

from __future__ import annotations

import ipaddress
from typing import Any

from local.rest.compute.labels import check_labels, give_labels, wanted_labels
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.operations import at_once
from local.rest.compute.service import method, place
from local.rest.compute.store import Store, in_use
from local.rest.errors import ApiError
from local.rest.service import Call

NAT_DEFAULTS = {"type": "PUBLIC", "enableEndpointIndependentMapping": False}
EXTERNAL = ipaddress.ip_network("203.0.113.0/24")  # documentation range: routed nowhere


@method("routers.insert")
def insert_router(call: Call) -> dict[str, Any]:
    """A router on a network."""
    store = call.world.of(Store)
    network = store.referenced(call.body["network"], "resource.network", "global/networks")
    fields = call.body | {"network": network["selfLink"]}
    if "nats" in fields:
        fields["nats"] = _nats(store, fields["nats"], call["region"])
    return at_once(call, "insert", store.new(place(call), "routers", fields))


def _nats(store: Store, nats: list[dict[str, Any]], region: str) -> list[dict[str, Any]]:
    checked = []
    for i, nat in enumerate(nats):
        field = f"resource.nats[{i}]"
        for needed in ("name", "sourceSubnetworkIpRangesToNat"):
            if not nat.get(needed):
                raise ApiError(
                    400, f"Required field '{field}.{needed}' not specified", reason="required"
                )
        where = f"regions/{region}/subnetworks"
        subnets = [
            s | {"name": store.referenced(s["name"], f"{field}.subnetworks", where)["selfLink"]}
            for s in nat.get("subnetworks", [])
        ]
        checked.append(NAT_DEFAULTS | nat | ({"subnetworks": subnets} if subnets else {}))
    if len({n["name"] for n in checked}) != len(checked):
        raise ApiError(
            400,
            "Invalid value for field 'resource.nats': ''. NAT names must be unique.",
            reason="invalid",
        )
    return checked


def _router(call: Call) -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path(place(call), "routers", call["router"]))


@method("routers.get")
def get_router(call: Call) -> dict[str, Any]:
    """A router."""
    return _router(call)


@method("routers.list")
def list_routers(call: Call) -> dict[str, Any]:
    """A region's routers."""
    found = call.world.of(Store).all("routers", place(call))
    path = f"projects/{call.world.project}/{place(call)}/routers"
    return listed(call, "compute#routerList", path, found)


@method("routers.aggregatedList")
def aggregated_routers(call: Call) -> dict[str, Any]:
    """All routers by region."""
    found = call.world.of(Store).all("routers")
    return aggregated(call, "compute#routerAggregatedList", "routers", found)


@method("routers.patch", "routers.update")
def change_router(call: Call) -> dict[str, Any]:
    """Fields that are named change; NATs come as a whole list."""
    store, router = call.world.of(Store), _router(call)
    fields = {k: v for k, v in call.body.items() if k not in ("id", "selfLink", "kind", "name")}
    if "network" in fields:
        network = store.referenced(fields["network"], "resource.network", "global/networks")
        fields["network"] = network["selfLink"]
    if "nats" in fields:
        fields["nats"] = _nats(store, fields["nats"], call["region"])
    kind = call.method_id.rpartition(".")[2]
    return at_once(call, kind, router, lambda: router.update(fields))


@method("routers.delete")
def delete_router(call: Call) -> dict[str, Any]:
    """Remove a router and its NATs."""
    store, router = call.world.of(Store), _router(call)
    return at_once(call, "delete", router, lambda: store.remove(router))


@method("addresses.insert")
def insert_address(call: Call) -> dict[str, Any]:
    """Reserve an address."""
    store = call.world.of(Store)
    fields = {"addressType": "EXTERNAL", "status": "RESERVED"} | call.body
    labels = fields.pop("labels", {})
    check_labels(labels)
    if fields["addressType"] == "EXTERNAL":
        fields = {"networkTier": "PREMIUM"} | fields
        fields["address"] = fields.get("address") or free_external(store)
    else:
        fields |= _internal(store, fields, call["region"])
    address = store.new(place(call), "addresses", fields)
    give_labels(address, labels)
    return at_once(call, "insert", address)


def free_external(store: Store) -> str:
    """An external address that nothing holds."""
    taken = {a.get("address") for a in store.all("addresses")}
    for instance in store.all("instances"):
        for nic in instance["networkInterfaces"]:
            taken |= {c.get("natIP") for c in nic.get("accessConfigs", [])}
    return _first_free(EXTERNAL, taken, skip=1)


def free_internal(store: Store, subnet: dict[str, Any]) -> str:
    """An address of the subnetwork that nothing holds; the first two are its own."""
    taken = {a.get("address") for a in store.all("addresses")}
    for instance in store.all("instances"):
        taken |= {nic.get("networkIP") for nic in instance["networkInterfaces"]}
    return _first_free(ipaddress.ip_network(subnet["ipCidrRange"]), taken, skip=2)


def _first_free(
    block: ipaddress.IPv4Network | ipaddress.IPv6Network, taken: set[Any], *, skip: int
) -> str:
    for i, host in enumerate(block.hosts(), 1):
        if i >= skip and str(host) not in taken:
            return str(host)
    raise ApiError(400, f"IP space of '{block}' is exhausted.", reason="IP_SPACE_EXHAUSTED")


def _internal(store: Store, fields: dict[str, Any], region: str) -> dict[str, Any]:
    where = f"regions/{region}/subnetworks"
    subnet = store.referenced(fields.get("subnetwork", "default"), "resource.subnetwork", where)
    found = {"subnetwork": subnet["selfLink"], "purpose": fields.get("purpose", "GCE_ENDPOINT")}
    return found | {"address": fields.get("address") or free_internal(store, subnet)}


def _address(call: Call) -> dict[str, Any]:
    store = call.world.of(Store)
    return store.get(store.path(place(call), "addresses", call["address"]))


@method("addresses.get")
def get_address(call: Call) -> dict[str, Any]:
    """A reserved address."""
    return _address(call)


@method("addresses.list")
def list_addresses(call: Call) -> dict[str, Any]:
    """A region's addresses."""
    found = call.world.of(Store).all("addresses", place(call))
    path = f"projects/{call.world.project}/{place(call)}/addresses"
    return listed(call, "compute#addressList", path, found)


@method("addresses.aggregatedList")
def aggregated_addresses(call: Call) -> dict[str, Any]:
    """All addresses by region."""
    found = call.world.of(Store).all("addresses")
    return aggregated(call, "compute#addressAggregatedList", "addresses", found)


@method("addresses.setLabels")
def label_address(call: Call) -> dict[str, Any]:
    """Replace an address's labels."""
    store = call.world.of(Store)
    address = store.get(store.path(place(call), "addresses", call["resource"]))
    labels = wanted_labels(call, address)
    return at_once(call, "setLabels", address, lambda: give_labels(address, labels))


@method("addresses.delete")
def delete_address(call: Call) -> dict[str, Any]:
    """Release an address that no instance uses."""
    store, address = call.world.of(Store), _address(call)
    for instance in store.all("instances"):
        for nic in instance["networkInterfaces"]:
            used = [nic.get("networkIP"), *(c.get("natIP") for c in nic.get("accessConfigs", []))]
            if address["address"] in used:
                raise in_use(address, instance)
    return at_once(call, "delete", address, lambda: store.remove(address))
