"""Secret Manager: secrets, versions, policies."""

from __future__ import annotations

import base64
import re
from typing import Any

import google_crc32c

from local.rest import permissions, policies
from local.rest.errors import ApiError
from local.rest.identity import held_permissions
from local.rest.labels import check_labels
from local.rest.masks import apply_mask
from local.rest.policies import Policies
from local.rest.service import Call, Service
from local.rest.times import stamp
from local.rest.words import words
from local.rest.world import World

SERVICE = Service(
    {"/secrets/": "secretmanager.v1"},
    api="secretmanager.googleapis.com",
    title="Secret Manager API",
)
SECRET_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
PAYLOAD_LIMIT_BYTES = 64 * 1024
CHANGEABLE = frozenset(
    words("labels annotations expireTime ttl topics rotation versionAliases versionDestroyTtl etag")
)


class Secrets:
    """Secrets by id: {"secret": resource, "versions": [resource], "data": {version: bytes}}."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.secrets: dict[str, dict[str, Any]] = {}
        self._etag = 100

    def etag(self) -> str:
        self._etag += 1
        return f'"{self._etag:x}"'

    def name(self, secret_id: str) -> str:
        return f"projects/{self.world.project_number}/secrets/{secret_id}"

    def get(self, call: Call) -> dict[str, Any]:
        """The secret that the path names; 404 with Google's words."""
        _require(call)
        held = self.secrets.get(call["secretsId"])
        if held is None:
            raise ApiError(404, f"Secret [{self.name(call['secretsId'])}] not found.")
        return held

    def version(self, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
        """(secret, version) that the path names; "latest" is the newest one, whatever its state."""
        held = self.get(call)
        wanted = call["versionsId"]
        wanted = held["secret"].get("versionAliases", {}).get(wanted, wanted)
        versions = held["versions"]
        if wanted == "latest" and versions:
            return held, versions[-1]
        for version in versions:
            if version["name"].rsplit("/", 1)[1] == str(wanted):
                return held, version
        name = f"{self.name(call['secretsId'])}/versions/{wanted}"
        raise ApiError(404, f"Secret Version [{name}] not found or has no versions.")


def _require(call: Call) -> None:
    if call["projectsId"] not in (call.world.project, call.world.project_number):
        raise ApiError(
            403,
            f"Permission 'secretmanager.secrets.get' denied on resource (or it may not exist): "
            f"projects/{call['projectsId']}.",
        )


@SERVICE.method("secretmanager.projects.secrets.create")
def create(call: Call) -> dict[str, Any]:
    _require(call)
    held = call.world.of(Secrets)
    secret_id = call.query.get("secretId", "")
    if not SECRET_ID.fullmatch(secret_id):
        raise ApiError(400, f"Field [secret_id] must match {SECRET_ID.pattern}. Got [{secret_id}].")
    replication = call.body.get("replication", {})
    if len([k for k in ("automatic", "userManaged") if k in replication]) != 1:
        raise ApiError(400, "The Secret.replication field must be set.")
    if "userManaged" in replication and not replication["userManaged"].get("replicas"):
        raise ApiError(400, "replication.user_managed.replicas must not be empty.")
    _check(call.body)
    if secret_id in held.secrets:
        raise ApiError(409, f"Secret [{held.name(secret_id)}] already exists.")
    secret = {k: v for k, v in call.body.items() if k not in ("name", "createTime", "etag", "ttl")}
    secret |= {
        "name": held.name(secret_id),
        "createTime": stamp(call.world.clock()),
        "etag": held.etag(),
    }
    held.secrets[secret_id] = {"secret": secret, "versions": [], "data": {}}
    call.world.of(Policies).start(secret["name"])
    return secret


@SERVICE.method("secretmanager.projects.secrets.get")
def get(call: Call) -> dict[str, Any]:
    return call.world.of(Secrets).get(call)["secret"]


@SERVICE.method("secretmanager.projects.secrets.list")
def list_secrets(call: Call) -> dict[str, Any]:
    _require(call)
    found = [held["secret"] for held in call.world.of(Secrets).secrets.values()]
    return {"secrets": found, "totalSize": len(found)}


@SERVICE.method("secretmanager.projects.secrets.patch")
def patch(call: Call) -> dict[str, Any]:
    held = call.world.of(Secrets).get(call)
    _check(call.body)
    apply_mask(held["secret"], call.body, call.query.get("updateMask"), CHANGEABLE)
    held["secret"]["etag"] = call.world.of(Secrets).etag()
    return held["secret"]


@SERVICE.method("secretmanager.projects.secrets.delete")
def delete(call: Call) -> dict[str, Any]:
    held = call.world.of(Secrets)
    secret = held.get(call)["secret"]
    del held.secrets[call["secretsId"]]
    call.world.of(Policies).drop(secret["name"])
    return {}


@SERVICE.method("secretmanager.projects.secrets.addVersion")
def add_version(call: Call) -> dict[str, Any]:
    secrets = call.world.of(Secrets)
    held = secrets.get(call)
    payload = call.body.get("payload", {})
    data = _payload(payload)
    number = len(held["versions"]) + 1
    version = {
        "name": f"{held['secret']['name']}/versions/{number}",
        "createTime": stamp(call.world.clock()),
        "state": "ENABLED",
        "replicationStatus": {"automatic": {}}
        if "automatic" in held["secret"]["replication"]
        else {"userManaged": {}},
        "etag": secrets.etag(),
        "clientSpecifiedPayloadChecksum": "dataCrc32c" in payload,
    }
    held["versions"].append(version)
    held["data"][version["name"]] = data
    return version


@SERVICE.method("secretmanager.projects.secrets.versions.get")
def get_version(call: Call) -> dict[str, Any]:
    return call.world.of(Secrets).version(call)[1]


@SERVICE.method("secretmanager.projects.secrets.versions.list")
def list_versions(call: Call) -> dict[str, Any]:
    versions = call.world.of(Secrets).get(call)["versions"]
    return {"versions": versions[::-1], "totalSize": len(versions)}


@SERVICE.method("secretmanager.projects.secrets.versions.access")
def access(call: Call) -> dict[str, Any]:
    held, version = call.world.of(Secrets).version(call)
    if version["state"] != "ENABLED":
        text = f"Secret Version [{version['name']}] is in {version['state']} state."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    data = held["data"][version["name"]]
    return {
        "name": version["name"],
        "payload": {
            "data": base64.b64encode(data).decode(),
            "dataCrc32c": str(google_crc32c.value(data)),
        },
    }


@SERVICE.method(
    "secretmanager.projects.secrets.versions.enable",
    "secretmanager.projects.secrets.versions.disable",
)
def switch(call: Call) -> dict[str, Any]:
    _, version = call.world.of(Secrets).version(call)
    _check_alive(call, version)
    version["state"] = "ENABLED" if call.method_id.endswith(".enable") else "DISABLED"
    return version


@SERVICE.method("secretmanager.projects.secrets.versions.destroy")
def destroy(call: Call) -> dict[str, Any]:
    held, version = call.world.of(Secrets).version(call)
    _check_alive(call, version)
    held["data"].pop(version["name"])
    version |= {"state": "DESTROYED", "destroyTime": stamp(call.world.clock())}
    return version


@SERVICE.method("secretmanager.projects.secrets.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    name = call.world.of(Secrets).get(call)["secret"]["name"]
    return call.world.of(Policies).get(name, policies.requested_version(call.query))


@SERVICE.method("secretmanager.projects.secrets.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    name = call.world.of(Secrets).get(call)["secret"]["name"]
    return call.world.of(Policies).set(name, call.body.get("policy", {}))


@SERVICE.method("secretmanager.projects.secrets.testIamPermissions")
def test_permissions(call: Call) -> dict[str, Any]:
    call.world.of(Secrets).get(call)
    return held_permissions(call, permissions.SECRET(call))


def _check(body: dict[str, Any]) -> None:
    check_labels(body.get("labels", {}))
    if "rotation" in body and not body.get("topics"):
        raise ApiError(400, "Secret.rotation requires Secret.topics to be set.")


def _check_alive(call: Call, version: dict[str, Any]) -> None:
    if version["state"] == "DESTROYED":
        text = f"Secret Version [{version['name']}] is in DESTROYED state."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    sent = call.body.get("etag")
    if sent and sent != version["etag"]:
        raise ApiError(400, "The etag does not match.", status_text="FAILED_PRECONDITION")


def _payload(payload: dict[str, Any]) -> bytes:
    if "data" not in payload:
        raise ApiError(400, "The SecretPayload.data field must be set.")
    try:
        data = base64.b64decode(payload["data"], validate=True)
    except ValueError:
        raise ApiError(
            400,
            "Invalid value at 'payload.data' (TYPE_BYTES), Base64 decoding failed for "
            f'"{payload["data"]}"',
        ) from None
    if len(data) > PAYLOAD_LIMIT_BYTES:
        raise ApiError(400, "Secret payload data must not be larger than 65536 bytes.")
    sent = payload.get("dataCrc32c")
    if sent is not None and int(sent) != google_crc32c.value(data):
        raise ApiError(400, "The payload data checksum does not match the provided data_crc32c.")
    return data
