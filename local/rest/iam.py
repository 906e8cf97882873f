"""IAM: service accounts, their policies, custom roles."""

from __future__ import annotations

import copy
import re
from typing import Any

from flask import Flask

from local.rest import permissions, policies
from local.rest.errors import ApiError
from local.rest.identity import held_permissions
from local.rest.masks import check_etag, new_etag, paths
from local.rest.policies import Policies
from local.rest.service import Call, Service, require_project
from local.rest.world import World


def _install(app: Flask, world: World) -> None:
    """From the start, policies know which accounts and roles there are."""
    world.of(Accounts)
    world.of(Roles)


SERVICE = Service(
    {"/iam/": "iam.v1"},
    api="iam.googleapis.com",
    title="Identity and Access Management (IAM) API",
    install=_install,
)

ACCOUNT_ID = re.compile(r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])")
ROLE_ID = re.compile(r"[a-zA-Z0-9_.]{3,64}")
PERMISSION = re.compile(r"[a-z][a-zA-Z0-9]*(\.[a-zA-Z][a-zA-Z0-9-]*){2,}")
NOT_IN_CUSTOM_ROLES = re.compile(r"resourcemanager\.(folders|organizations)\..*")
STAGES = ("ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP")
CONCURRENT = "There were concurrent changes to the {}."
READ_ONLY = ("name", "projectId", "uniqueId", "email", "oauth2ClientId", "disabled")


class Accounts:
    """Service accounts by email; `-` as project finds any."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.accounts: dict[str, dict[str, Any]] = {}
        world.of(Policies).account_exists = self.exists
        world.service_account_exists = self.exists
        number = world.project_number
        for email, name in (
            (
                f"{number}-compute@developer.gserviceaccount.com",
                "Compute Engine default service account",
            ),
            (f"{world.project}@appspot.gserviceaccount.com", "App Engine default service account"),
        ):
            self.add(email, {"displayName": name})

    def exists(self, email: str) -> bool:
        return email in self.accounts

    def add(self, email: str, given: dict[str, Any]) -> dict[str, Any]:
        unique = "11" + self.world.new_id()
        account = {
            "name": f"projects/{self.world.project}/serviceAccounts/{email}",
            "projectId": self.world.project,
            "uniqueId": unique,
            "email": email,
            "oauth2ClientId": unique,
            "etag": new_etag(),
        } | {k: v for k, v in given.items() if k in ("displayName", "description") and v}
        self.accounts[email] = account
        return account

    def get(self, call: Call) -> dict[str, Any]:
        """The account that the path names, by email or unique id; 404 with Google's words."""
        if call["projectsId"] != "-":
            require_project(call, call["projectsId"])
        wanted = call["serviceAccountsId"]
        for account in self.accounts.values():
            if wanted in (account["email"], account["uniqueId"]):
                return account
        raise ApiError(404, "Unknown service account")


class Roles:
    """Custom roles of the project; a deleted one stays, marked, for its id is not free."""

    def __init__(self, world: World) -> None:
        self.roles: dict[str, dict[str, Any]] = {}
        world.of(Policies).role_exists = self.usable
        world.of(Policies).custom_permissions = self.permissions

    def usable(self, name: str) -> bool:
        return name in self.roles and not self.roles[name].get("deleted")

    def permissions(self, name: str) -> frozenset[str]:
        """What a role grants: nothing once it is deleted or disabled."""
        if not self.usable(name) or self.roles[name].get("stage") == "DISABLED":
            return frozenset()
        return frozenset(self.roles[name].get("includedPermissions", ()))

    def get(self, call: Call) -> dict[str, Any]:
        require_project(call, call["projectsId"])
        name = f"projects/{call.world.project}/roles/{call['rolesId']}"
        if name not in self.roles:
            raise ApiError(404, f"The role named {name} was not found.")
        return self.roles[name]


# -- service accounts


@SERVICE.method("iam.projects.serviceAccounts.create")
def create_account(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    accounts = call.world.of(Accounts)
    account_id = call.body.get("accountId", "")
    if not ACCOUNT_ID.fullmatch(account_id):
        raise ApiError(400, f"Invalid service account ID: {account_id}.")
    given = call.body.get("serviceAccount", {})
    _check_texts(given)
    email = f"{account_id}@{call.world.project}.iam.gserviceaccount.com"
    if accounts.exists(email):
        name = f"projects/{call.world.project}/serviceAccounts/{email}"
        raise ApiError(
            409,
            f"Service account {account_id} already exists within project "
            f"{name.split('/')[0]}/{call.world.project}.",
        )
    return accounts.add(email, given)


@SERVICE.method("iam.projects.serviceAccounts.get")
def get_account(call: Call) -> dict[str, Any]:
    return call.world.of(Accounts).get(call)


@SERVICE.method("iam.projects.serviceAccounts.list")
def list_accounts(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    return {"accounts": list(call.world.of(Accounts).accounts.values())}


@SERVICE.method("iam.projects.serviceAccounts.patch")
def patch_account(call: Call) -> dict[str, Any]:
    account = call.world.of(Accounts).get(call)
    given = call.body.get("serviceAccount", {})
    fields = paths(call.body.get("updateMask"))
    if not fields:
        raise ApiError(400, "The update mask must name at least one of display_name, description.")
    for field in fields:
        if field not in ("displayName", "description"):
            raise ApiError(400, f"Invalid update mask: {field} cannot be updated.")
    check_etag(account, given, CONCURRENT.format("service account"))
    _check_texts(given)
    for field in fields:
        account[field] = given.get(field, "")
    account["etag"] = new_etag()
    return account


@SERVICE.method("iam.projects.serviceAccounts.update")
def update_account(call: Call) -> dict[str, Any]:
    account = call.world.of(Accounts).get(call)
    _check_texts(call.body)
    account["displayName"] = call.body.get("displayName", "")
    return account


@SERVICE.method("iam.projects.serviceAccounts.delete")
def delete_account(call: Call) -> dict[str, Any]:
    accounts = call.world.of(Accounts)
    account = accounts.get(call)
    del accounts.accounts[account["email"]]
    held = call.world.of(Policies)
    held.drop(account["name"])
    held.forget_account(account["email"], account["uniqueId"])
    return {}


@SERVICE.method("iam.projects.serviceAccounts.enable", "iam.projects.serviceAccounts.disable")
def switch_account(call: Call) -> dict[str, Any]:
    account = call.world.of(Accounts).get(call)
    account.pop("disabled", None)
    if call.method_id.endswith("disable"):
        account["disabled"] = True
    return {}


@SERVICE.method("iam.projects.serviceAccounts.getIamPolicy")
def get_account_policy(call: Call) -> dict[str, Any]:
    name = call.world.of(Accounts).get(call)["name"]
    return call.world.of(Policies).get(name, policies.requested_version(call.query))


@SERVICE.method("iam.projects.serviceAccounts.setIamPolicy")
def set_account_policy(call: Call) -> dict[str, Any]:
    name = call.world.of(Accounts).get(call)["name"]
    return call.world.of(Policies).set(name, call.body.get("policy", {}))


@SERVICE.method("iam.projects.serviceAccounts.testIamPermissions")
def test_account_permissions(call: Call) -> dict[str, Any]:
    call.world.of(Accounts).get(call)
    return held_permissions(call, permissions.ACCOUNT(call))


# -- custom roles


@SERVICE.method("iam.projects.roles.create")
def create_role(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    held = call.world.of(Roles)
    role_id = call.body.get("roleId", "")
    if not ROLE_ID.fullmatch(role_id):
        raise ApiError(
            400,
            f"The role_id must match the regular expression {ROLE_ID.pattern}. Role ID "
            f"provided: {role_id}",
        )
    name = f"projects/{call.world.project}/roles/{role_id}"
    if name in held.roles:
        text = f"A role named {role_id} in projects/{call.world.project} already exists."
        if held.roles[name].get("deleted"):
            raise ApiError(
                400,
                f"You can't create a role with role_id ({role_id}) where there is an "
                "existing role with that role_id in a deleted state.",
                status_text="FAILED_PRECONDITION",
            )
        raise ApiError(409, text)
    held.roles[name] = {"name": name} | _checked_role(call.body.get("role", {}))
    return held.roles[name]


@SERVICE.method("iam.projects.roles.get")
def get_role(call: Call) -> dict[str, Any]:
    return call.world.of(Roles).get(call)


@SERVICE.method("iam.projects.roles.list")
def list_roles(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    deleted = call.query.get("showDeleted") == "true"
    found = call.world.of(Roles).roles.values()
    return {"roles": [r for r in found if deleted or not r.get("deleted")]}


@SERVICE.method("iam.projects.roles.patch")
def patch_role(call: Call) -> dict[str, Any]:
    role = call.world.of(Roles).get(call)
    if role.get("deleted"):
        raise ApiError(
            400,
            f"You can't update a deleted role {role['name']}.",
            status_text="FAILED_PRECONDITION",
        )
    check_etag(role, call.body, CONCURRENT.format("role"))
    mask = call.query.get("updateMask")
    given = {k: v for k, v in call.body.items() if k not in ("name", "etag", "deleted")}
    if mask:
        fields = paths(mask)
        given = {k: v for k, v in role.items() if k not in fields} | {
            k: given[k] for k in fields if k in given
        }
    fresh = {"name": role["name"]} | _checked_role({k: v for k, v in given.items() if k != "name"})
    call.world.of(Roles).roles[role["name"]] = fresh
    return fresh


@SERVICE.method("iam.projects.roles.delete")
def delete_role(call: Call) -> dict[str, Any]:
    role = call.world.of(Roles).get(call)
    if role.get("deleted"):
        raise ApiError(
            400,
            f"You can't delete role_id ({call['rolesId']}): it is already deleted.",
            status_text="FAILED_PRECONDITION",
        )
    role |= {"deleted": True, "etag": new_etag()}
    return role


@SERVICE.method("iam.projects.roles.undelete")
def undelete_role(call: Call) -> dict[str, Any]:
    role = call.world.of(Roles).get(call)
    role.pop("deleted", None)
    role["etag"] = new_etag()
    return role


def _checked_role(given: dict[str, Any]) -> dict[str, Any]:
    if len(given.get("title", "")) > 100:
        raise ApiError(400, "The role title must be at most 100 characters.")
    if len(given.get("description", "")) > 300:
        raise ApiError(400, "The role description must be at most 300 characters.")
    permissions = given.get("includedPermissions", [])
    for permission in permissions:
        if not PERMISSION.fullmatch(permission):
            raise ApiError(400, f"Permission {permission} is not valid.")
        if NOT_IN_CUSTOM_ROLES.fullmatch(permission):
            raise ApiError(400, f"Permission {permission} is not supported in custom roles.")
    role = copy.deepcopy(given)
    role["includedPermissions"] = sorted(set(permissions))
    if not permissions:
        del role["includedPermissions"]
    return role | {"etag": new_etag()}


def _check_texts(given: dict[str, Any]) -> None:
    if len(given.get("displayName", "").encode()) > 100:
        raise ApiError(400, "The display name must be at most 100 UTF-8 bytes.")
    if len(given.get("description", "").encode()) > 256:
        raise ApiError(400, "The description must be at most 256 UTF-8 bytes.")
