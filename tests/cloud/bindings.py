"""The foundation's accounts, roles and bindings, as its program orders them, made over REST.

The program runs against mocks; what it asks for is sent to the local cloud by the calls that the
provider makes. So a table of rights is tested against the bindings that users get.
"""

from __future__ import annotations

from typing import Any

from tests.cloud.conftest import Api
from tests.components.mocks import Made

PROJECT = "proj-1"


def accounts(api: Api, made: list[Made]) -> None:
    """Accounts and roles: a policy may name no other."""
    for one in made:
        if one.kind == "Account":
            body = {"accountId": one.inputs["accountId"]}
            _ok(api.post(f"/iam/v1/projects/{PROJECT}/serviceAccounts", body))
        if one.kind == "IAMCustomRole":
            role = {"title": one.inputs["title"], "includedPermissions": one.inputs["permissions"]}
            body = {"roleId": one.inputs["roleId"], "role": role}
            _ok(api.post(f"/iam/v1/projects/{PROJECT}/roles", body))


def bind(api: Api, made: list[Made]) -> None:
    """Every binding."""
    for one in made:
        if one.type.endswith(("IAMMember", "IamMember")):
            _bind(api, one)


def _bind(api: Api, one: Made) -> None:
    """Read, modify, write; each binding by itself, as the provider does."""
    path, inputs = _path(one), one.inputs
    if one.type.startswith("gcp:storage"):
        policy = _ok(api.get(f"{path}?optionsRequestedPolicyVersion=3"))
    elif one.type.startswith("gcp:projects"):
        options = {"options": {"requestedPolicyVersion": 3}}
        policy = _ok(api.post(f"{path}:getIamPolicy", options))
    else:
        http = "POST" if one.type.startswith("gcp:serviceaccount") else "GET"
        policy = _ok(api(http, f"{path}:getIamPolicy?options.requestedPolicyVersion=3"))
    binding = {"role": inputs["role"], "members": [inputs["member"]]}
    if "condition" in inputs:
        binding["condition"] = inputs["condition"]
    fresh = policy | {"version": 3, "bindings": [*policy.get("bindings", []), binding]}
    if one.type.startswith("gcp:storage"):
        _ok(api("PUT", path, fresh))
    else:
        _ok(api.post(f"{path}:setIamPolicy", {"policy": fresh}))


def _path(one: Made) -> str:
    """Where the policy of a binding's resource lies."""
    inputs = one.inputs
    match one.type:
        case "gcp:projects/iAMMember:IAMMember":
            return f"/crm/v1/projects/{PROJECT}"
        case "gcp:storage/bucketIAMMember:BucketIAMMember":
            return f"/storage/v1/b/{inputs['bucket']}/iam"
        case "gcp:secretmanager/secretIamMember:SecretIamMember":
            return f"/secrets/v1/{inputs['secretId']}"
        case "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember":
            return f"/kms/v1/{inputs['cryptoKeyId']}"
        case "gcp:serviceaccount/iAMMember:IAMMember":
            return f"/iam/v1/{inputs['serviceAccountId']}"
        case "gcp:cloudrunv2/serviceIamMember:ServiceIamMember":
            place = f"projects/{PROJECT}/locations/{inputs['location']}"
            return f"/run/v2/{place}/services/{inputs['name']}"
    raise LookupError(f"no path for {one.type}: a new kind of binding belongs here")


def _ok(answer: tuple[int, Any]) -> dict[str, Any]:
    status, body = answer
    assert status == 200, body
    return dict(body)
