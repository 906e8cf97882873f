"""IAM: accounts, custom roles, and policies that a careless writer cannot spoil."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.conftest import Api, message

PROJECT = "/crm/v1/projects/proj"
ACCOUNTS = "/iam/v1/projects/proj/serviceAccounts"
ROLES = "/iam/v1/projects/proj/roles"
NODE = "node-one@proj.iam.gserviceaccount.com"
ONLY_OURS = {
    "title": "ours",
    "expression": "resource.name.extract('instances/{name}').startsWith('mayfly-')",
}


def make_account(api: Api, account_id: str = "node-one", **fields: Any) -> tuple[int, Any]:
    return api.post(ACCOUNTS, {"accountId": account_id, "serviceAccount": fields})


def policy(api: Api, version: int = 3) -> dict[str, Any]:
    body = {"options": {"requestedPolicyVersion": version}}
    status, answer = api.post(f"{PROJECT}:getIamPolicy", body)
    assert status == 200
    return dict(answer)


def write(api: Api, *bindings: dict[str, Any], **fields: Any) -> tuple[int, Any]:
    body = {"policy": {"version": 3, "bindings": list(bindings)} | fields}
    return api.post(f"{PROJECT}:setIamPolicy", body)


def grant(role: str, *members: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "members": list(members)} | fields


@pytest.mark.parametrize("account_id", ["node", "Node-one", "1node-one", "node-", "n" * 31, ""])
def test_account_is_refused_when_its_id_breaks_the_rules(api: Api, account_id: str) -> None:
    """Six to thirty characters, as the console says too late."""
    status, answer = make_account(api, account_id)

    assert (status, message(answer)) == (400, f"Invalid service account ID: {account_id}.")


def test_account_lives_from_create_to_delete(api: Api) -> None:
    """The provider reads it back three times after each change."""
    _, made = make_account(api, displayName="Node")
    taken = make_account(api)
    body = {"serviceAccount": {"displayName": "New", "etag": made["etag"]}}
    changed = api("PATCH", f"{ACCOUNTS}/{NODE}", body | {"updateMask": "display_name"})
    stale = api("PATCH", f"{ACCOUNTS}/{NODE}", body | {"updateMask": "display_name"})
    frozen = api("PATCH", f"{ACCOUNTS}/{NODE}", body | {"updateMask": "email"})
    by_id = api.get(f"/iam/v1/projects/-/serviceAccounts/{made['uniqueId']}")
    gone = api("DELETE", f"{ACCOUNTS}/{NODE}")

    assert (made["email"], taken[0]) == (NODE, 409)
    assert (changed[1]["displayName"], by_id[1]["displayName"]) == ("New", "New")
    assert (stale[0], frozen[0], gone[0]) == (409, 400, 200)
    assert message(api.get(f"{ACCOUNTS}/{NODE}")[1]) == "Unknown service account"


BAD_BINDINGS = {
    "no such account": (
        grant("roles/storage.objectViewer", "serviceAccount:gone@proj.iam.gserviceaccount.com"),
        "Service account gone@proj.iam.gserviceaccount.com does not exist.",
    ),
    "no such role": (grant("roles/storage.objectVeiwer", "user:a@b.co"), "is not supported"),
    "no such custom role": (grant("projects/proj/roles/mine", "user:a@b.co"), "does not exist"),
    "no kind": (grant("roles/viewer", "a@b.co"), "Invalid member a@b.co"),
    "no address": (grant("roles/viewer", "user:a"), "Invalid member user:a"),
    "no title": (
        grant("roles/compute.viewer", "user:a@b.co", condition={"expression": "true"}),
        "title must not be empty",
    ),
    "unbalanced": (
        grant("roles/compute.viewer", "user:a@b.co", condition=ONLY_OURS | {"expression": "(1"}),
        "compilation failed",
    ),
    "no such field": (
        grant(
            "roles/compute.viewer",
            "user:a@b.co",
            condition=ONLY_OURS | {"expression": "resource.nmae == 'a'"},
        ),
        "undefined field 'nmae'",
    ),
    "basic role": (
        grant("roles/editor", "user:a@b.co", condition=ONLY_OURS),
        "Conditions can't be set on primitive role roles/editor",
    ),
}


@pytest.mark.parametrize("case", BAD_BINDINGS)
def test_policy_is_refused_when_a_binding_is_wrong(api: Api, case: str) -> None:
    """Least privilege rests on names: a misspelt one must not pass."""
    make_account(api)
    binding, text = BAD_BINDINGS[case]

    status, answer = write(api, binding)

    assert status == 400
    assert text in message(answer)


def test_policy_is_refused_when_somebody_else_wrote_meanwhile(api: Api) -> None:
    """Two bindings at once: the provider starts over on exactly this answer."""
    held = policy(api)
    binding = grant("roles/compute.viewer", "user:a@b.co")
    first = write(api, binding, etag=held["etag"])
    second = write(api, binding, etag=held["etag"])

    assert (first[0], second[0], second[1]["error"]["status"]) == (200, 409, "ABORTED")
    assert message(second[1]).startswith("There were concurrent policy changes.")


def test_policy_keeps_conditions_and_hides_them_from_old_readers(api: Api) -> None:
    """The reaper may delete only our VMs because of this condition."""
    conditional = grant("roles/compute.viewer", "user:a@b.co", condition=ONLY_OURS)

    without_version = write(api, conditional, version=1)
    kept = write(api, conditional, grant("roles/compute.viewer", "user:c@d.co"))
    downgrade = write(api, grant("roles/viewer", "user:a@b.co"), version=1)
    old = policy(api, version=1)["bindings"]

    assert (without_version[0], kept[0], downgrade[0]) == (400, 200, 400)
    assert policy(api)["version"] == 3
    assert conditional in policy(api)["bindings"]
    assert all("condition" not in b for b in old)
    assert old[0]["role"].startswith("roles/compute.viewer_withcond_")


def test_policy_marks_an_account_when_it_is_deleted(api: Api) -> None:
    """A new account of the same name must not inherit its rights."""
    _, made = make_account(api)
    write(api, grant("roles/compute.viewer", f"serviceAccount:{NODE}"))

    api("DELETE", f"{ACCOUNTS}/{NODE}")

    assert policy(api)["bindings"][0]["members"] == [
        f"deleted:serviceAccount:{NODE}?uid={made['uniqueId']}"
    ]


def test_policy_merges_bindings_of_one_role(api: Api) -> None:
    """As Google answers: one binding a role, each member once."""
    write(
        api,
        grant("roles/viewer", "user:a@b.co"),
        grant("roles/viewer", "user:a@b.co", "user:c@d.co"),
        grant("roles/editor"),
    )

    assert policy(api)["bindings"] == [grant("roles/viewer", "user:a@b.co", "user:c@d.co")]


BAD_ROLES = {
    "id": ("my-role", {}, "must match the regular expression"),
    "permission": ("mine", {"includedPermissions": ["compute.delete"]}, "is not valid"),
    "stage": ("mine", {"stage": "SOON"}, "Invalid value at 'role.stage'"),
    "title": ("mine", {"title": "t" * 101}, "at most 100 characters"),
}


@pytest.mark.parametrize("case", BAD_ROLES)
def test_custom_role_is_refused_when_google_would_refuse_it(api: Api, case: str) -> None:
    """An auto-named role never passes; nor does a permission that is none."""
    role_id, fields, text = BAD_ROLES[case]
    body = {"roleId": role_id, "role": {"title": "Mine", "stage": "GA"} | fields}

    status, answer = api.post(ROLES, body)

    assert status == 400
    assert text in message(answer)


def test_custom_role_id_stays_taken_when_the_role_is_deleted(api: Api) -> None:
    """Google keeps a deleted role: its id is free only after weeks; undelete brings it back."""
    body = {"roleId": "mine", "role": {"includedPermissions": ["compute.instances.list"]}}
    assert api.post(ROLES, body)[0] == 200
    assert write(api, grant("projects/proj/roles/mine", "user:a@b.co"))[0] == 200

    deleted = api("DELETE", f"{ROLES}/mine")
    again = api.post(ROLES, body)
    granted = write(api, grant("projects/proj/roles/mine", "user:a@b.co"))
    restored = api.post(f"{ROLES}/mine:undelete", {})

    assert (deleted[1]["deleted"], again[0], granted[0]) == (True, 400, 400)
    assert "deleted" not in restored[1]


def test_project_is_refused_when_it_is_not_ours(api: Api) -> None:
    """Google says 403 for what is not there, too."""
    for call in (api.get("/crm/v1/projects/other"), api.get("/iam/v1/projects/other/roles")):
        assert call[0] == 403
