"""The real provider's recorded requests against the services: all taken, answered in kind.

Extra checks: collected only where the recordings are (see conftest).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from local.rest.iam import Accounts, Roles
from local.rest.quotas import Quotas
from local.rest.world import World
from tests.cloud.conftest import Api
from tests.cloud.golden import AUTH, Replay, records
from tests.conftest import SHARED
from tests.waiting import wait_until

GOLDEN = SHARED / "golden" / "gcp-http"
GROUPS = {
    "storage": ("bucket", "bucket-object", "bucket-iam-member"),
    "identities": (
        *("service-account", "service-account-iam-member", "custom-role", "project"),
        *("project-service", "project-iam-member"),
    ),
    "secret": ("secret",),
    "function": ("function", "run-service-iam-member"),
    "scheduler-job": ("scheduler-job",),
    "kms": ("kms",),
    "quota-preference": ("quota-preference",),
    "budget": ("budget",),
}
# Their values are each cloud's own; that they are there, and their kind, is not.
OWN_VALUES = {
    *("etag", "uniqueId", "oauth2ClientId", "generation", "build", "uri", "revision", "name"),
    *(
        "id",
        "mediaLink",
        "md5Hash",
        "crc32c",
        "size",
        "traceId",
        "grantedValue",
        "dockerRepository",
    ),
    *("createTime", "updateTime", "timeCreated", "updated", "timeStorageClassUpdated", "version"),
    *("timeFinalized", "lockedTime", "effectiveTime", "userUpdateTime", "scheduleTime"),
    *("destroyTime", "generateTime", "url", "resourceId", "labels", "parent", "metageneration"),
    *(
        "dockerRepository",
        "clientSpecifiedPayloadChecksum",
        "config",
        "bucket",
        "object",
        "state",
        "service",
    ),
}
# What the recorder answered and Google does not need to: empty, or another's.
LEFT_OUT = {"stateDetail", "bindings", "services", "team"}


def differences(recorded: Any, ours: Any, at: str = "") -> list[str]:
    """Where our answer lacks what the recorded one holds, or holds it in another kind."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        return [
            found
            for key, value in recorded.items()
            if key not in LEFT_OUT and value not in ({}, None)
            for found in (
                differences(value, ours[key], f"{at}.{key}") if key in ours else [f"{at}.{key}?"]
            )
        ]
    if isinstance(recorded, list) and isinstance(ours, list):
        pairs = zip(recorded, ours, strict=False)
        lost = [f"{at}: {len(recorded)}, not {len(ours)}"] if len(recorded) > len(ours) else []
        return lost + [d for a, b in pairs for d in differences(a, b, f"{at}[]")]
    if type(recorded) is not type(ours):
        return [f"{at} is {ours!r}, not {recorded!r}"]
    last = at.rpartition(".")[2].removesuffix("[]")
    return [] if last in OWN_VALUES or recorded == ours else [f"{at} is {ours!r}"]


class Services(Replay):
    """Replays with uploads, operations that take their time, and resources that vanish."""

    def answer(self, record: dict[str, Any]) -> tuple[int | str, Any]:
        if isinstance(record["request"], dict) and "_multipart" in record["request"]:
            return self._upload(record)
        status, body = super().answer(record)
        recorded = record["response"] or {}
        if isinstance(body, dict) and recorded.get("done") and "done" not in body:
            return wait_until(lambda: self._once_done(record), limit_s=20)
        return status, body

    def _once_done(self, record: dict[str, Any]) -> tuple[int | str, Any] | None:
        status, body = super().answer(record)
        return (status, body) if body.get("done") else None

    def _upload(self, record: dict[str, Any]) -> tuple[int, Any]:
        boundary = record["reqHeaders"]["content-type"].partition("boundary=")[2]
        metadata, media = record["request"]["_multipart"]
        content = source_zip() if media["contentType"] == "application/zip" else b"recorded"
        body = (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode()
            + str(metadata["json"]).replace("'", '"').encode()
            + f"\r\n--{boundary}\r\nContent-Type: {media['contentType']}\r\n\r\n".encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = AUTH | {"Content-Type": record["reqHeaders"]["content-type"]}
        response = self.client.post(record["path"], data=body, headers=headers)
        return response.status_code, response.get_json(silent=True)

    def _vanish(self, path: str) -> None:
        plain = path.partition("?")[0].partition(":getIamPolicy")[0].partition("/versions/")[0]
        name = plain.partition("/projects/")[2] and "projects/" + plain.partition("/projects/")[2]
        self.world.of(Roles).roles.pop(name, None)
        self.world.of(Quotas).preferences.pop(name, None)
        self.client.delete(plain, headers=AUTH)


def source_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", "def tick(request):\n    return 'ok'\n")
    return packed.getvalue()


def recorded(group: str) -> list[dict[str, Any]]:
    """A group's requests, phase by phase, in the order in which they were made."""
    found = []
    for folder in GROUPS[group]:
        for file in sorted((GOLDEN / folder).glob("*.jsonl")):
            found += [r | {"file": f"{folder}/{file.name}"} for r in records(file)]
    return sorted(found, key=lambda r: (r["file"].partition("/")[2], r["t"], r["seq"]))


@pytest.fixture
def prepared(world: World, api: Api, stored: str) -> Callable[[str], None]:
    """Make what a group takes for granted: it was recorded beside others."""

    def prepare(group: str) -> None:
        if group == "identities":
            world.of(Accounts).accounts.clear()
        for name in ("seed", "ticker", "reaper", "build"):
            world.of(Accounts).add(f"{name}@proj.iam.gserviceaccount.com", {})
        if group == "function":
            bucket = {"name": "proj-mayfly-source", "location": "us-central1"}
            assert api.post("/storage/storage/v1/b?project=proj", bucket)[0] == 200
            path = "/upload/storage/v1/b/proj-mayfly-source/o?uploadType=media"
            api.client.post(f"{path}&name=reaper-1a2b3c.zip", data=source_zip(), headers=AUTH)

    return prepare


@pytest.mark.parametrize("group", GROUPS)
def test_services_take_recorded_requests_when_the_real_provider_sends_them(
    group: str, world: World, api: Api, prepared: Callable[[str], None]
) -> None:
    """What the real provider sends must be taken, or `--provider real` would not come up."""
    prepared(group)
    replay, problems = Services(world, api.client), []

    for record in recorded(group):
        status, body = replay.answer(record)
        where = f"{record['file']} {record['seq']} {record['method']} {record['path']}"
        # The recorder kept the policies of what had vanished.
        outlived = ":getIamPolicy" in record["path"] and "07-" in record["file"]
        if status != record["status"] and not outlived:
            problems.append(f"{where}: {status} {body}, not {record['status']}")
        elif status == 200:
            problems += [f"{where}: {d}" for d in differences(record["response"], body)]

    assert not problems, "\n".join(problems)


def test_comparison_sees_red_when_a_field_is_missing_or_of_another_kind() -> None:
    """A comparison that finds nothing would let any answer pass."""
    recorded_ = {"size": "8", "rule": [{"age": 90}], "name": "a"}

    assert differences(recorded_, {"size": 8, "rule": [{}], "name": "b"}) == [
        ".size is 8, not '8'",
        ".rule[].age?",
    ]
