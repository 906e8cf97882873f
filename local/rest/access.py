"""Whether somebody holds a permission: bindings, roles and conditions, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.rest import roles
from local.rest.cel import CelError, evaluate
from local.rest.policies import Policies
from local.rest.role_permissions import HELD
from local.rest.words import words

if TYPE_CHECKING:
    from local.rest.identity import Principal
    from local.rest.world import World

OWNER = "roles/owner"
# IAM conditions see the name and type of these; of all others they see empty strings.
TYPES_WITH_ATTRIBUTES = frozenset(
    words(
        "cloudkms.googleapis.com/CryptoKey cloudkms.googleapis.com/CryptoKeyVersion "
        "cloudkms.googleapis.com/KeyRing cloudresourcemanager.googleapis.com/Project "
        "compute.googleapis.com/Disk compute.googleapis.com/Firewall "
        "compute.googleapis.com/Image compute.googleapis.com/Instance "
        "secretmanager.googleapis.com/Secret secretmanager.googleapis.com/SecretVersion "
        "storage.googleapis.com/Bucket storage.googleapis.com/Object"
    )
)


@dataclass(frozen=True)
class Resource:
    """What a permission is asked on.

    name: relative, as the request spells it ("projects/p/zones/z/instances/17"). type: in full,
    "compute.googleapis.com/Instance". policy: full name of the policy of its own, or of the parent
    that has one, besides the project's; "" for none.
    """

    name: str
    type: str
    policy: str = ""

    @property
    def service(self) -> str:
        return self.type.partition("/")[0]

    def facts(self) -> dict[str, Any]:
        """What a condition reads."""
        known = self.type in TYPES_WITH_ATTRIBUTES
        return {
            "resource.name": self.name if known else "",
            "resource.type": self.type if known else "",
            "resource.service": self.service if known else "",
        }


@dataclass(frozen=True)
class Decision:
    """held: whether the permission is. problems: conditions that could not be evaluated."""

    held: bool
    problems: tuple[str, ...] = ()


def decide(
    world: World,
    caller: Principal | None,
    permission: str,
    resource: Resource,
    facts: Mapping[str, Any] | None = None,
) -> Decision:
    """Whether `caller` (None: nobody, without a token) holds `permission` on `resource`.

    facts: what conditions may read beyond the resource and the time, e.g. destination.port.
    A condition that cannot be evaluated grants nothing.
    """
    if caller is not None and OWNER in caller.roles:
        return Decision(True)
    members = _names(world, caller)
    now = datetime.fromtimestamp(world.clock(), UTC)
    known = {"request.time": now} | resource.facts() | dict(facts or {})
    problems = []
    held = world.of(Policies)
    for name in (resource.policy, f"projects/{world.project}"):
        for binding in held.bindings(name):
            if members.isdisjoint(binding["members"]):
                continue
            if permission not in _permissions(world, binding["role"]):
                continue
            try:
                condition = binding.get("condition")
                if condition is None or evaluate(condition["expression"], known):
                    return Decision(True)
            except CelError as error:
                problems.append(str(error))
    return Decision(False, tuple(problems))


def _names(world: World, caller: Principal | None) -> frozenset[str]:
    """Every member that stands for this caller."""
    if caller is None:
        return frozenset(("allUsers",))
    names = {"allUsers", "allAuthenticatedUsers", caller.member}
    for binding in world.of(Policies).bindings(f"projects/{world.project}"):
        if caller.member in binding["members"] and binding["role"] in roles.CONVENIENCE:
            names.add(f"{roles.CONVENIENCE[binding['role']]}:{world.project}")
    return frozenset(names)


def _permissions(world: World, role: str) -> frozenset[str]:
    if roles.is_custom(role):
        return world.of(Policies).custom_permissions(role)
    return HELD.get(role, frozenset())
