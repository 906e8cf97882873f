"""IAM policies of every resource that has one: kept, versioned by etag, checked by Google's rules.

Kept and answered; `identity.authorize` decides what they grant.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from local.rest import conditions, roles
from local.rest.errors import ApiError

if TYPE_CHECKING:
    from local.rest.world import World

CONCURRENT = (
    "There were concurrent policy changes. Please retry the whole read-modify-write with "
    "exponential backoff. "
    "The request's ETag '{sent}' did not match the current policy's ETag '{held}'."
)
MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers|(?:user|serviceAccount|group):[^\s:@]+@[^\s@]+\.[^\s@]+"
    r"|domain:[\w.-]+\.\w+|project(?:Owner|Editor|Viewer):[\w:.-]+"
    r"|deleted:(?:user|serviceAccount|group):[^\s]+\?uid=\d+|principal(?:Set)?://\S+"
)
ACCOUNT = re.compile(r"serviceAccount:([^@]+@([^.@]+)\.iam\.gserviceaccount\.com)")
Binding = dict[str, Any]


class Policies:
    """All policies of one world, by the resource's full name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._policies: dict[str, dict[str, Any]] = {}
        self.account_exists: Callable[[str], bool] = lambda email: True
        self.role_exists: Callable[[str], bool] = lambda role: True
        self.custom_permissions: Callable[[str], frozenset[str]] = lambda role: frozenset()

    def start(self, resource: str, bindings: Iterable[Binding] = ()) -> None:
        """A new resource's policy; `bindings` are what Google gives it at birth."""
        self._policies[resource] = {"etag": _etag(), "bindings": [dict(b) for b in bindings]}

    def drop(self, resource: str) -> None:
        self._policies.pop(resource, None)

    def get(self, resource: str, version: int = 1) -> dict[str, Any]:
        """As getIamPolicy answers; a reader of less than version 3 sees no conditions."""
        held = self._held(resource)
        bindings = [dict(b) for b in held["bindings"]]
        conditional = any("condition" in b for b in bindings)
        if conditional and version < 3:
            bindings = [_without_condition(b) for b in bindings]
        policy: dict[str, Any] = {"version": 3 if conditional and version >= 3 else 1}
        policy["etag"] = held["etag"]
        return policy | ({"bindings": bindings} if bindings else {})

    def set(self, resource: str, policy: Mapping[str, Any]) -> dict[str, Any]:
        """As setIamPolicy answers: 409 for an old etag, 400 for what Google would not take."""
        held = self._held(resource)
        version = policy.get("version", 0)
        if version not in (0, 1, 3):
            raise ApiError(400, f"Invalid policy version '{version}'. Must be one of 0, 1, 3.")
        bindings = [b for b in policy.get("bindings", []) if b.get("members")]
        self._check_version(version, bindings, held)
        for binding in bindings:
            self._check(binding)
        sent = policy.get("etag")
        if sent and sent != held["etag"]:
            text = CONCURRENT.format(sent=sent, held=held["etag"])
            raise ApiError(409, text, status_text="ABORTED", reason="aborted")
        self._policies[resource] = {"etag": _etag(), "bindings": _merged(bindings)}
        return self.get(resource, 3)

    def bindings(self, resource: str) -> list[Binding]:
        """Of this resource itself; none for what has no policy."""
        held: list[Binding] = self._policies.get(resource, {}).get("bindings", [])
        return held

    def forget_account(self, email: str, unique_id: str) -> None:
        """Google marks a deleted account's bindings; the name alone no longer counts."""
        gone = f"deleted:serviceAccount:{email}?uid={unique_id}"
        for policy in self._policies.values():
            for binding in policy["bindings"]:
                members = binding["members"]
                binding["members"] = [
                    gone if m == f"serviceAccount:{email}" else m for m in members
                ]

    def _held(self, resource: str) -> dict[str, Any]:
        return self._policies.setdefault(resource, {"etag": _etag(), "bindings": []})

    def _check_version(self, version: int, bindings: list[Binding], held: dict[str, Any]) -> None:
        if version == 3:
            return
        if any("condition" in b for b in bindings):
            raise ApiError(
                400,
                "The specified policy version is not supported. Policies with conditions "
                "must specify version 3.",
            )
        if any("condition" in b for b in held["bindings"]):
            raise ApiError(
                400,
                "The existing policy has conditions. Set policy version 3 to change it, "
                "or they would be lost.",
            )

    def _check(self, binding: Binding) -> None:
        role = binding.get("role", "")
        if roles.is_custom(role):
            if not self.role_exists(role):
                raise ApiError(400, f"Role ({role}) does not exist in the resource's hierarchy.")
        elif role not in roles.KNOWN:
            raise ApiError(400, f"Role {role} is not supported for this resource.")
        if "condition" in binding:
            if role.removeprefix("roles/") in roles.BASIC:
                raise ApiError(400, f"Conditions can't be set on primitive role {role}.")
            conditions.check(binding["condition"])
        for member in binding["members"]:
            self._check_member(member)

    def _check_member(self, member: str) -> None:
        if not MEMBER.fullmatch(member):
            raise ApiError(400, f"Invalid member {member}: it has no known type or no valid id.")
        found = ACCOUNT.fullmatch(member)
        if found and found[2] == self._world.project and not self.account_exists(found[1]):
            raise ApiError(400, f"Service account {found[1]} does not exist.")


def requested_version(
    query: Mapping[str, str], name: str = "options.requestedPolicyVersion"
) -> int:
    """Of a getIamPolicy call; 400 for one that Google does not know."""
    text = query.get(name) or "1"
    if text not in ("0", "1", "2", "3"):
        raise ApiError(400, f"Invalid requested policy version: {text}")
    return int(text)


def checked_permissions(permissions: list[str]) -> list[str]:
    """Of a testIamPermissions call; 400 for what is no permission."""
    for permission in permissions:
        if "*" in permission or permission.count(".") < 2:
            raise ApiError(400, f"Permission {permission} is not valid for this resource.")
    return permissions


def _merged(bindings: Iterable[Binding]) -> list[Binding]:
    """One binding per role and condition, each member once."""
    merged: dict[str, Binding] = {}
    for binding in bindings:
        key = repr((binding["role"], sorted(binding.get("condition", {}).items())))
        members = merged.setdefault(key, dict(binding, members=[]))["members"]
        members += [m for m in binding["members"] if m not in members]
    return list(merged.values())


def _without_condition(binding: Binding) -> Binding:
    if "condition" not in binding:
        return binding
    digest = hashlib.sha256(repr(sorted(binding["condition"].items())).encode()).hexdigest()[:20]
    return {"role": f"{binding['role']}_withcond_{digest}", "members": binding["members"]}


def _etag() -> str:
    return base64.b64encode(b"\x07\x06" + secrets.token_bytes(6)).decode()
