"""Buckets: Google's rules for names, places, lifecycles and policies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.conftest import Api, message

pytestmark = pytest.mark.usefixtures("stored")
BUCKETS = "/storage/v1/b"
ONE = f"{BUCKETS}/proj-one"
UNIFORM = {"uniformBucketLevelAccess": {"enabled": True}}


def make(api: Api, **fields: Any) -> tuple[int, Any]:
    body = {"name": "proj-one", "location": "us-central1"} | fields
    return api.post(f"{BUCKETS}?project=proj", body)


@pytest.mark.parametrize(
    "name",
    ["ab", "Proj-One", "proj_one-", "goog-one", "my-google-one", "10.0.0.1", "a..b", "x" * 64],
)
def test_bucket_is_refused_when_its_name_breaks_the_rules(api: Api, name: str) -> None:
    """A name that passes here and not at Google would be found on the first real `up`."""
    status, answer = make(api, name=name)

    assert (status, message(answer)) == (400, f"Invalid bucket name: '{name}'")


def rule(action: dict[str, Any], **condition: Any) -> dict[str, Any]:
    return {"lifecycle": {"rule": [{"action": action, "condition": condition}]}}


BAD = {
    "place": ({"location": "moon-1"}, "location constraint is not valid"),
    "class": ({"storageClass": "WARM"}, "storage class is not valid"),
    "label": ({"labels": {"Team": "ml"}}, "Label key 'Team' violates"),
    "prevention": ({"iamConfiguration": {"publicAccessPrevention": "on"}}, "Invalid value"),
    "soft delete": ({"softDeletePolicy": {"retentionDurationSeconds": "60"}}, "7 and 90 days"),
    "action": (rule({"type": "Erase"}, age=1), "Invalid lifecycle action type: Erase"),
    "no condition": (rule({"type": "Delete"}), "at least one condition"),
    "abort": (rule({"type": "AbortIncompleteMultipartUpload"}, isLive=True), "takes only age"),
    "field": ({"colour": "red"}, 'Unknown name "colour"'),
}


@pytest.mark.parametrize("case", BAD)
def test_bucket_is_refused_when_google_would_refuse_it(api: Api, case: str) -> None:
    """A typo in a bucket's settings must be an error here too."""
    fields, text = BAD[case]

    status, answer = make(api, **fields)

    assert status == 400
    assert text in message(answer)


def test_bucket_is_refused_when_the_name_is_taken_or_the_project_unknown(api: Api) -> None:
    """The provider tells these two apart by status and words."""
    assert make(api)[0] == 200

    taken = make(api)
    elsewhere = api.post(f"{BUCKETS}?project=other", {"name": "other-one"})

    assert taken[0] == 409
    assert "already own it" in message(taken[1])
    assert (elsewhere[0], message(elsewhere[1])) == (400, "Unknown project id: other")


def test_bucket_patch_merges_and_null_removes_when_labels_change(api: Api) -> None:
    """The provider sends null for a label that went: left in, it would be a diff for ever."""
    make(api, labels={"a": "1", "b": "2"}, versioning={"enabled": True})

    _, answer = api("PATCH", ONE, {"labels": {"a": None, "c": "3"}})

    assert answer["labels"] == {"b": "2", "c": "3"}
    assert answer["versioning"] == {"enabled": True}
    assert answer["metageneration"] == "2"


def test_bucket_patch_is_refused_when_the_metageneration_is_old(api: Api) -> None:
    """Two writers must not overwrite each other unseen."""
    make(api)

    status, answer = api("PATCH", f"{ONE}?ifMetagenerationMatch=7", {"labels": {"a": "1"}})

    assert status == 412
    assert "pre-conditions" in message(answer)


def test_bucket_delete_is_refused_when_an_object_is_left(api: Api) -> None:
    """Weights must not vanish with their bucket."""
    make(api)
    api.client.post(
        "/upload/storage/v1/b/proj-one/o?uploadType=media&name=a/b", data=b"x", headers=AUTH
    )

    status, answer = api("DELETE", ONE)

    assert (status, message(answer)) == (409, "The bucket you tried to delete is not empty.")
    assert api("DELETE", f"{ONE}/o/a%2Fb")[0] == 204
    assert api("DELETE", ONE)[0] == 204
    assert message(api.get(ONE)[1]) == "The specified bucket does not exist."


AUTH = {"Authorization": "Bearer fake"}


def test_bucket_policy_is_refused_when_it_grants_to_all_or_needs_uniform_access(api: Api) -> None:
    """Public access prevention and uniform access are what keeps the weights private."""
    make(api, iamConfiguration={"publicAccessPrevention": "enforced"})
    public = {"role": "roles/storage.objectViewer", "members": ["allUsers"]}
    condition = {"title": "t", "expression": "resource.name.startsWith('projects/_/buckets/a')"}
    some = {"role": "roles/storage.objectViewer", "members": ["user:dev@example.com"]}

    for_all = api("PUT", f"{ONE}/iam", {"bindings": [public]})
    conditional = api(
        "PUT", f"{ONE}/iam", {"version": 3, "bindings": [some | {"condition": condition}]}
    )
    api("PATCH", ONE, {"iamConfiguration": UNIFORM})
    taken = api("PUT", f"{ONE}/iam", {"version": 3, "bindings": [some | {"condition": condition}]})

    assert (for_all[0], conditional[0], taken[0]) == (412, 412, 200)
    assert "public access prevention is enforced" in message(for_all[1])
    assert taken[1]["bindings"][0]["condition"] == condition
