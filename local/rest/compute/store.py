"""Every compute resource of the project, by path."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from local.rest.compute.catalogue import REGIONS
from local.rest.compute.links import fingerprint, link, path_of, timestamp
from local.rest.errors import ApiError

if TYPE_CHECKING:
    from local.rest.world import World

SINGULAR = {
    "networks": "network",
    "subnetworks": "subnetwork",
    "firewalls": "firewall",
    "routers": "router",
    "addresses": "address",
    "disks": "disk",
    "instances": "instance",
}


class Store:
    """Resources as they are answered, keyed by `projects/p/zones/z/instances/n`.

    Callers hold the world's lock. A project is born with the network "default".
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._resources: dict[str, dict[str, Any]] = {}
        self.common_metadata: dict[str, Any] = {"kind": "compute#metadata"}
        self._born_with_default_network()

    def path(self, place: str, collection: str, name: str) -> str:
        """`projects/p/<place>/<collection>/<name>`."""
        return f"projects/{self.world.project}/{place}/{collection}/{name}"

    def all(self, collection: str, place: str | None = None) -> list[dict[str, Any]]:
        """Resources of a collection, in order of their names."""
        return [r for p, r in sorted(self._resources.items()) if _fits(p, collection, place)]

    def find(self, path: str) -> dict[str, Any] | None:
        """The resource at `path`, whose last segment may be a numeric id."""
        path = path.replace(f"projects/{self.world.project_number}/", self._own(), 1)
        found = self._resources.get(path)
        stem, _, name = path.rpartition("/")
        if found is None and name.isdigit():
            found = next((r for p, r in self._under(stem) if r["id"] == name), None)
        return found

    def get(self, path: str) -> dict[str, Any]:
        """The resource at `path`; Google's 404 without one."""
        found = self.find(path)
        if found is None:
            raise ApiError(404, f"The resource '{path}' was not found")
        return found

    def by_id(self, collection: str, numeric_id: str) -> dict[str, Any] | None:
        """The resource of a collection with this numeric id."""
        return next((r for r in self.all(collection) if r["id"] == numeric_id), None)

    def referenced(self, value: str, field: str, where: str) -> dict[str, Any]:
        """What a field of a request names; 400 as Google answers when it is not there."""
        path = path_of(value, self.world.project, where)
        found = self.find(path)
        if found is None:
            raise ApiError(
                400,
                f"Invalid value for field '{field}': '{link(path)}'. "
                f"The referenced {SINGULAR[path.split('/')[-2]]} resource cannot be found.",
                reason="invalid",
            )
        return found

    def new(self, place: str, collection: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Keep a new resource and give it what the server gives; 409 when the name is taken."""
        path = self.path(place, collection, fields["name"])
        if path in self._resources:
            raise ApiError(409, f"The resource '{path}' already exists")
        resource = fields | {
            "kind": f"compute#{SINGULAR[collection]}",
            "id": self.world.new_id(),
            "creationTimestamp": timestamp(self.world.clock()),
            "selfLink": link(path),
        }
        scope, _, name = place.partition("/")
        if name:
            resource[scope.removesuffix("s")] = link(f"projects/{self.world.project}/{place}")
        self._resources[path] = resource
        return resource

    def remove(self, resource: dict[str, Any]) -> None:
        """Forget a resource."""
        self._resources.pop(path_of(resource["selfLink"], "", ""), None)

    def refuse_while_used(self, resource: dict[str, Any], *collections: str) -> None:
        """400 when a resource of these collections holds a link to this one."""
        target = resource["selfLink"]
        for collection in collections:
            for other in self.all(collection):
                if _mentions(other, target, skip="selfLink"):
                    raise in_use(resource, other)

    def _own(self) -> str:
        return f"projects/{self.world.project}/"

    def _under(self, stem: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((p, r) for p, r in self._resources.items() if p.rpartition("/")[0] == stem)

    def _born_with_default_network(self) -> None:
        network = self.new(
            "global",
            "networks",
            {
                "name": "default",
                "description": "Default network for the project",
                "autoCreateSubnetworks": True,
                "routingConfig": {"routingMode": "REGIONAL"},
                "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
            },
        )
        self.add_auto_subnetworks(network)

    def add_auto_subnetworks(self, network: dict[str, Any]) -> None:
        """One /20 of 10.128.0.0/9 in each region, as an auto mode network has."""
        blocks = ipaddress.IPv4Network("10.128.0.0/9").subnets(new_prefix=20)
        for region, block in zip(REGIONS, blocks, strict=False):
            subnet = {
                "name": network["name"],
                "network": network["selfLink"],
                "ipCidrRange": str(block),
                "gatewayAddress": str(block.network_address + 1),
                "privateIpGoogleAccess": False,
                "purpose": "PRIVATE",
                "stackType": "IPV4_ONLY",
                "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
                "fingerprint": fingerprint([region, str(block)]),
            }
            self.new(f"regions/{region}", "subnetworks", subnet)


def in_use(resource: dict[str, Any], by: dict[str, Any]) -> ApiError:
    """The 400 of a delete while something else holds on to the resource."""
    kind = resource["kind"].removeprefix("compute#")
    mine, other = path_of(resource["selfLink"], "", ""), path_of(by["selfLink"], "", "")
    return ApiError(
        400,
        f"The {kind} resource '{mine}' is already being used by '{other}'",
        reason="resourceInUseByAnotherResource",
    )


def _fits(path: str, collection: str, place: str | None) -> bool:
    _, _, rest = path.split("/", 2)
    found_place, found, _ = rest.rsplit("/", 2)
    return found == collection and place in (None, found_place)


def _mentions(value: Any, target: str, *, skip: str = "") -> bool:
    if isinstance(value, dict):
        return any(_mentions(v, target) for k, v in value.items() if k != skip)
    if isinstance(value, list):
        return any(_mentions(v, target) for v in value)
    return bool(value == target)
