"""Cloud Storage: the one door to buckets and objects.

Buckets and their policies are kept here; the bytes are fake-gcs-server's, by way of `objects.py`.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Flask, Response, request

from local.rest import permissions, policies
from local.rest.backend import Backend
from local.rest.bucket_rules import check_bucket, check_name, location_type
from local.rest.checks import check_body
from local.rest.discovery import load
from local.rest.errors import ApiError, Style
from local.rest.identity import held_permissions
from local.rest.object_door import NO_BUCKET, ObjectDoor
from local.rest.objects import Objects
from local.rest.policies import Policies
from local.rest.service import Call, Service
from local.rest.times import stamp
from local.rest.words import words
from local.rest.world import World

DOCUMENT = "storage.v1"
OUTPUT_ONLY = words(
    "kind id selfLink projectNumber generation metageneration etag timeCreated updated "
    "locationType owner"
)
FIXED = ("name", "location", "customPlacementConfig", "hierarchicalNamespace", "objectRetention")
LOCK_AFTER_S = 90 * 86400
DEFAULT_SOFT_DELETE_S = 7 * 86400


class Buckets:
    """All buckets, and the way to their objects."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.buckets: dict[str, dict[str, Any]] = {}
        self._backend: Backend | None = None
        self._objects: Objects | None = None

    def attach(self, url: str) -> None:
        """Keep the objects in the fake-gcs-server at `url`."""
        self._backend = Backend(url)
        self._objects = Objects(self._backend, self.require, _checked_metadata)

    @property
    def attached(self) -> bool:
        return self._backend is not None

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            raise ApiError(501, "This local cloud runs without a storage server.")
        return self._backend

    @property
    def objects(self) -> Objects:
        if self._objects is None:
            raise ApiError(501, "This local cloud runs without a storage server.")
        return self._objects

    def get(self, name: str) -> dict[str, Any]:
        """The bucket; 404 with Google's words."""
        if name not in self.buckets:
            raise ApiError(404, NO_BUCKET, reason="notFound")
        return self.buckets[name]

    def require(self, name: str) -> None:
        self.get(name)

    def is_empty(self, name: str) -> bool:
        status, found = self.backend.call(
            "GET", f"/storage/v1/b/{name}/o", {"maxResults": "1", "versions": "true"}
        )
        return status == 404 or not found.get("items")

    def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """A new bucket from a checked resource; 409 when the name is taken."""
        name = given["name"]
        if name in self.buckets:
            text = (
                "Your previous request to create the named bucket succeeded and you already own it."
            )
            raise ApiError(409, text, reason="conflict")
        self.backend.call("POST", "/storage/v1/b", body={"name": name})
        bucket = _born(given, self.world)
        self.buckets[name] = bucket
        self.world.of(Policies).start(_resource(name), _birth_bindings(self.world.project))
        return bucket

    def delete(self, name: str) -> None:
        self.backend.call("DELETE", f"/storage/v1/b/{name}")
        del self.buckets[name]
        self.world.of(Policies).drop(_resource(name))


def _born(given: dict[str, Any], world: World) -> dict[str, Any]:
    now = stamp(world.clock())
    bucket = copy.deepcopy({k: v for k, v in given.items() if k not in OUTPUT_ONLY}) | {
        "kind": "storage#bucket",
        "id": given["name"],
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{given['name']}",
        "projectNumber": world.project_number,
        "generation": world.new_id(),
        "metageneration": "1",
        "etag": _etag(1),
        "timeCreated": now,
        "updated": now,
        "location": given.get("location", "US").upper(),
        "locationType": location_type(given.get("location", "US")),
        "storageClass": given.get("storageClass", "STANDARD"),
    }
    bucket.setdefault("softDeletePolicy", {"retentionDurationSeconds": str(DEFAULT_SOFT_DELETE_S)})
    if bucket["softDeletePolicy"].get("retentionDurationSeconds", "0") != "0":
        bucket["softDeletePolicy"]["effectiveTime"] = now
    _settle(bucket, world)
    return bucket


def _settle(bucket: dict[str, Any], world: World) -> None:
    """The parts of a bucket that follow from others."""
    config = bucket.setdefault("iamConfiguration", {})
    config.setdefault("publicAccessPrevention", "inherited")
    uniform = config.setdefault("uniformBucketLevelAccess", {"enabled": False})
    if uniform.get("enabled"):
        uniform.setdefault("lockedTime", stamp(world.clock() + LOCK_AFTER_S))
    else:
        uniform.pop("lockedTime", None)
    config["bucketPolicyOnly"] = dict(uniform)
    for field in ("labels", "lifecycle"):
        if not bucket.get(field) or bucket[field] == {"rule": []}:
            bucket.pop(field, None)


def _birth_bindings(project: str) -> list[dict[str, Any]]:
    owners = [f"projectEditor:{project}", f"projectOwner:{project}"]
    return [
        {"role": "roles/storage.legacyBucketOwner", "members": owners},
        {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{project}"]},
        {"role": "roles/storage.legacyObjectOwner", "members": owners},
        {"role": "roles/storage.legacyObjectReader", "members": [f"projectViewer:{project}"]},
    ]


def install(app: Flask, world: World) -> None:
    """Objects, uploads and downloads: streamed, so not through the checks for small JSON calls."""
    door = ObjectDoor(
        world,
        lambda: world.of(Buckets).objects,
        lambda bucket: world.of(Buckets).require(bucket),
    )
    app.before_request(door.answer)
    app.after_request(_empty_answer_to_a_bucket_delete)


SERVICE = Service(
    {"/storage/v1/": DOCUMENT, "/storage/storage/v1/": DOCUMENT},
    style=Style.LEGACY,
    api="storage.googleapis.com",
    title="Cloud Storage JSON API",
    install=install,
)


# -- buckets


@SERVICE.method("storage.buckets.insert")
def insert(call: Call) -> dict[str, Any]:
    if call.query.get("project") not in (call.world.project, call.world.project_number):
        raise ApiError(400, f"Unknown project id: {call.query.get('project')}", reason="invalid")
    if not call.world.settings["billing"]:
        text = "The billing account for the owning project is disabled in state absent"
        raise ApiError(403, text, reason="accountDisabled")
    name = call.body.get("name", "")
    if not name:
        raise ApiError(400, "Required", reason="required")
    check_name(name)
    check_bucket(call.body)
    return call.world.of(Buckets).create(call.body)


@SERVICE.method("storage.buckets.get")
def get(call: Call) -> dict[str, Any]:
    return call.world.of(Buckets).get(call["bucket"])


@SERVICE.method("storage.buckets.list")
def list_buckets(call: Call) -> dict[str, Any]:
    if call.query.get("project") not in (call.world.project, call.world.project_number):
        raise ApiError(400, f"Unknown project id: {call.query.get('project')}", reason="invalid")
    found = sorted(call.world.of(Buckets).buckets.items())
    prefix = call.query.get("prefix", "")
    return {"kind": "storage#buckets", "items": [b for name, b in found if name.startswith(prefix)]}


@SERVICE.method("storage.buckets.patch", "storage.buckets.update")
def patch(call: Call) -> dict[str, Any]:
    buckets = call.world.of(Buckets)
    bucket = buckets.get(call["bucket"])
    _check_metageneration(call.query, bucket)
    given = {k: v for k, v in (call.raw_body or {}).items() if k not in OUTPUT_ONLY}
    for field in FIXED:
        if field in given and str(given[field]).upper() != str(bucket.get(field)).upper():
            raise ApiError(400, f"The bucket's {field} cannot be changed.", reason="invalid")
    fresh = _merge(bucket, {k: v for k, v in given.items() if k not in FIXED})
    check_bucket(fresh)
    _settle(fresh, call.world)
    number = int(bucket["metageneration"]) + 1
    fresh |= {
        "metageneration": str(number),
        "etag": _etag(number),
        "updated": stamp(call.world.clock()),
    }
    soft = fresh.get("softDeletePolicy", {})
    if str(soft.get("retentionDurationSeconds", "0")) == "0":
        soft.pop("effectiveTime", None)
    buckets.buckets[call["bucket"]] = fresh
    return fresh


@SERVICE.method("storage.buckets.delete")
def delete(call: Call) -> None:
    buckets = call.world.of(Buckets)
    _check_metageneration(call.query, buckets.get(call["bucket"]))
    if not buckets.is_empty(call["bucket"]):
        raise ApiError(409, "The bucket you tried to delete is not empty.", reason="conflict")
    buckets.delete(call["bucket"])


@SERVICE.method("storage.buckets.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    call.world.of(Buckets).require(call["bucket"])
    version = policies.requested_version(call.query, "optionsRequestedPolicyVersion")
    return _shown(call, call.world.of(Policies).get(_resource(call["bucket"]), version))


@SERVICE.method("storage.buckets.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    bucket = call.world.of(Buckets).get(call["bucket"])
    bindings, config = call.body.get("bindings", []), bucket["iamConfiguration"]
    uniform = config["uniformBucketLevelAccess"].get("enabled")
    if not uniform and any("condition" in b for b in bindings):
        text = "Policies with conditions need uniform bucket-level access on the bucket."
        raise ApiError(412, text, reason="conditionNotMet")
    public = any(
        m in ("allUsers", "allAuthenticatedUsers") for b in bindings for m in b.get("members", [])
    )
    if public and config["publicAccessPrevention"] == "enforced":
        text = (
            "The member bindings allUsers and allAuthenticatedUsers are not allowed since "
            "public access prevention is enforced."
        )
        raise ApiError(412, text, reason="conditionNotMet")
    return _shown(call, call.world.of(Policies).set(_resource(call["bucket"]), call.body))


@SERVICE.method("storage.buckets.testIamPermissions")
def test_permissions(call: Call) -> dict[str, Any]:
    call.world.of(Buckets).require(call["bucket"])
    wanted = replace(call, body={"permissions": request.args.getlist("permissions")})
    kind = {"kind": "storage#testIamPermissionsResponse"}
    return kind | held_permissions(wanted, permissions.BUCKET(call))


@SERVICE.method("storage.buckets.getStorageLayout")
def layout(call: Call) -> dict[str, Any]:
    bucket = call.world.of(Buckets).get(call["bucket"])
    return {
        "kind": "storage#storageLayout",
        "bucket": call["bucket"],
        "location": bucket["location"],
        "locationType": bucket["locationType"],
    }


@SERVICE.method("storage.anywhereCaches.list", "storage.rapidCaches.list")
def caches(call: Call) -> dict[str, Any]:
    call.world.of(Buckets).require(call["bucket"])
    return {"kind": "storage#anywhereCaches"} if "anywhere" in call.method_id else {}


@SERVICE.method("storage.projects.serviceAccount.get")
def service_agent(call: Call) -> dict[str, Any]:
    number = call.world.project_number
    return {
        "kind": "storage#serviceAccount",
        "email_address": f"service-{number}@gs-project-accounts.iam.gserviceaccount.com",
    }


def _shown(call: Call, policy: dict[str, Any]) -> dict[str, Any]:
    return policy | {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{call['bucket']}"}


def _check_metageneration(query: Mapping[str, str], bucket: Mapping[str, Any]) -> None:
    wanted = query.get("ifMetagenerationMatch")
    if wanted and wanted != bucket["metageneration"]:
        text = "At least one of the pre-conditions you specified did not hold."
        raise ApiError(412, text, reason="conditionNotMet")


def _merge(held: Any, given: Any) -> Any:
    """JSON merge patch: null removes, lists replace."""
    if not isinstance(given, dict) or not isinstance(held, dict):
        return copy.deepcopy(given)
    out = {k: copy.deepcopy(v) for k, v in held.items() if k not in given}
    for key, value in given.items():
        if value is not None:
            out[key] = _merge(held.get(key, {}), value)
    return out


def _resource(bucket: str) -> str:
    return f"projects/_/buckets/{bucket}"


def _etag(number: int) -> str:
    return base64.b64encode(bytes((8, number & 127))).decode()


def _checked_metadata(given: dict[str, Any]) -> dict[str, Any]:
    """An object's metadata, checked as Google checks it."""
    clean = check_body(load(DOCUMENT).methods["storage.objects.insert"], given, Style.LEGACY)
    return clean or {}


def _empty_answer_to_a_bucket_delete(response: Response) -> Response:
    path = request.path.rstrip("/").split("/")
    if (
        request.method == "DELETE"
        and path[-2:-1] == ["b"]
        and "storage" in path
        and response.status_code == 200
    ):
        return Response(b"", 204)
    return response
