"""Cloud KMS: key rings and keys for ever, versions that can be destroyed, and real encryption."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local.rest import permissions, policies
from local.rest.bucket_rules import MULTI_REGIONS, REGIONS
from local.rest.errors import ApiError
from local.rest.identity import held_permissions
from local.rest.labels import check_labels
from local.rest.masks import apply_mask
from local.rest.policies import Policies
from local.rest.service import Call, Service, require_project
from local.rest.times import stamp
from local.rest.world import World

SERVICE = Service(
    {"/kms/": "cloudkms.v1"},
    api="cloudkms.googleapis.com",
    title="Cloud Key Management Service (KMS) API",
)
RING = "cloudkms.projects.locations.keyRings"
KEY = f"{RING}.cryptoKeys"
VERSION = f"{KEY}.cryptoKeyVersions"
ID = re.compile(r"[a-zA-Z0-9_-]{1,63}")
PERIOD = re.compile(r"(\d+)(?:\.\d{1,9})?s")
DAY_S = 86400
CHANGEABLE = frozenset(
    ("labels", "rotationPeriod", "nextRotationTime", "versionTemplate", "primary")
)
PLAINTEXT_LIMIT_BYTES = 64 * 1024
NONCE_BYTES = 12


@dataclass
class Key:
    """A symmetric key: its resource, its versions' resources and material, by name."""

    resource: dict[str, Any]
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    material: dict[str, bytes] = field(default_factory=dict)


class Keys:
    """Everything by full name."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rings: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, Key] = {}

    def add_version(self, key: Key) -> dict[str, Any]:
        now = stamp(self.world.clock())
        name = f"{key.resource['name']}/cryptoKeyVersions/{len(key.versions) + 1}"
        key.versions[name] = {
            "name": name,
            "state": "ENABLED",
            "createTime": now,
            "generateTime": now,
        } | key.resource["versionTemplate"]
        key.material[name] = AESGCM.generate_key(256)
        return key.versions[name]


def _parent(call: Call) -> str:
    require_project(call, call["projectsId"])
    location = call["locationsId"]
    if location.upper() not in REGIONS | MULTI_REGIONS | {"GLOBAL", "EUROPE"}:
        raise ApiError(404, f"The request concerns location '{location}' which does not exist.")
    return f"projects/{call.world.project}/locations/{location}"


def _ring(call: Call) -> dict[str, Any]:
    name = f"{_parent(call)}/keyRings/{call['keyRingsId']}"
    found = call.world.of(Keys).rings.get(name)
    if found is None:
        raise ApiError(404, f"KeyRing {name} not found.")
    return found


def _key(call: Call) -> Key:
    name = f"{_ring(call)['name']}/cryptoKeys/{call['cryptoKeysId']}"
    found = call.world.of(Keys).keys.get(name)
    if found is None:
        raise ApiError(404, f"CryptoKey {name} not found.")
    return found


def _version(call: Call) -> tuple[Key, dict[str, Any]]:
    key = _key(call)
    name = f"{key.resource['name']}/cryptoKeyVersions/{call['cryptoKeyVersionsId']}"
    if name not in key.versions:
        raise ApiError(404, f"CryptoKeyVersion {name} not found.")
    return key, key.versions[name]


@SERVICE.method(f"{RING}.create")
def create_ring(call: Call) -> dict[str, Any]:
    parent, ring_id = _parent(call), call.query.get("keyRingId", "")
    _check_id("key_ring_id", ring_id)
    name = f"{parent}/keyRings/{ring_id}"
    rings = call.world.of(Keys).rings
    if name in rings:
        raise ApiError(409, f"KeyRing {name} already exists.")
    rings[name] = {"name": name, "createTime": stamp(call.world.clock())}
    return rings[name]


@SERVICE.method(f"{RING}.get")
def get_ring(call: Call) -> dict[str, Any]:
    return _ring(call)


@SERVICE.method(f"{RING}.list")
def list_rings(call: Call) -> dict[str, Any]:
    start = f"{_parent(call)}/"
    found = [r for name, r in call.world.of(Keys).rings.items() if name.startswith(start)]
    return {"keyRings": found, "totalSize": len(found)}


@SERVICE.method(f"{KEY}.create")
def create_key(call: Call) -> dict[str, Any]:
    ring, key_id = _ring(call), call.query.get("cryptoKeyId", "")
    _check_id("crypto_key_id", key_id)
    keys = call.world.of(Keys)
    name = f"{ring['name']}/cryptoKeys/{key_id}"
    if call.body.get("purpose") != "ENCRYPT_DECRYPT":
        raise ApiError(400, "The local cloud makes keys of purpose ENCRYPT_DECRYPT only.")
    _check_key(call.body)
    if name in keys.keys:
        raise ApiError(409, f"CryptoKey {name} already exists.")
    template = {"protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}
    resource = {
        k: v for k, v in call.body.items() if k not in ("name", "primary", "createTime")
    } | {
        "name": name,
        "createTime": stamp(call.world.clock()),
        "versionTemplate": template | call.body.get("versionTemplate", {}),
    }
    resource.setdefault("destroyScheduledDuration", "2592000s")
    key = Key(resource)
    keys.keys[name] = key
    call.world.of(Policies).start(name)
    if call.query.get("skipInitialVersionCreation") != "true":
        resource["primary"] = keys.add_version(key)
    return resource


@SERVICE.method(f"{KEY}.get")
def get_key(call: Call) -> dict[str, Any]:
    return _key(call).resource


@SERVICE.method(f"{KEY}.list")
def list_keys(call: Call) -> dict[str, Any]:
    start = f"{_ring(call)['name']}/"
    found = [k.resource for name, k in call.world.of(Keys).keys.items() if name.startswith(start)]
    return {"cryptoKeys": found, "totalSize": len(found)}


@SERVICE.method(f"{KEY}.patch")
def patch_key(call: Call) -> dict[str, Any]:
    key = _key(call)
    mask = call.query.get("updateMask")
    if not mask:
        raise ApiError(400, "The update_mask must be set.")
    _check_key(call.body)
    apply_mask(key.resource, call.body, mask, CHANGEABLE)
    return key.resource


@SERVICE.method(f"{VERSION}.create")
def create_version(call: Call) -> dict[str, Any]:
    return call.world.of(Keys).add_version(_key(call))


@SERVICE.method(f"{VERSION}.get")
def get_version(call: Call) -> dict[str, Any]:
    return _version(call)[1]


@SERVICE.method(f"{VERSION}.list")
def list_versions(call: Call) -> dict[str, Any]:
    found = list(_key(call).versions.values())
    return {"cryptoKeyVersions": found, "totalSize": len(found)}


@SERVICE.method(f"{VERSION}.destroy")
def destroy_version(call: Call) -> dict[str, Any]:
    key, version = _version(call)
    if version["state"] not in ("ENABLED", "DISABLED"):
        text = (
            f"{version['name']} is not enabled or disabled; its current state is "
            f"{version['state']}."
        )
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    delay_s = int(key.resource["destroyScheduledDuration"].removesuffix("s"))
    version |= {
        "state": "DESTROY_SCHEDULED",
        "destroyTime": stamp(call.world.clock() + delay_s),
    }
    return version


@SERVICE.method(f"{VERSION}.restore")
def restore_version(call: Call) -> dict[str, Any]:
    _, version = _version(call)
    if version["state"] != "DESTROY_SCHEDULED":
        text = f"{version['name']} is not scheduled for destruction."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    version.pop("destroyTime")
    version["state"] = "DISABLED"
    return version


@SERVICE.method(f"{KEY}.encrypt")
def encrypt(call: Call) -> dict[str, Any]:
    key = _key(call)
    primary = key.resource.get("primary")
    if primary is None or primary["state"] != "ENABLED":
        text = f"{key.resource['name']} has no enabled primary version."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    plain = _bytes(call, "plaintext")
    if len(plain) > PLAINTEXT_LIMIT_BYTES:
        raise ApiError(400, "The plaintext must be no larger than 64KiB.")
    nonce = os.urandom(NONCE_BYTES)
    number = int(primary["name"].rsplit("/", 1)[1])
    sealed = AESGCM(key.material[primary["name"]]).encrypt(nonce, plain, _extra(call))
    cipher = number.to_bytes(4, "big") + nonce + sealed
    return {
        "name": primary["name"],
        "ciphertext": base64.b64encode(cipher).decode(),
        "ciphertextCrc32c": str(google_crc32c.value(cipher)),
        "protectionLevel": primary["protectionLevel"],
    }


@SERVICE.method(f"{KEY}.decrypt")
def decrypt(call: Call) -> dict[str, Any]:
    key = _key(call)
    cipher = _bytes(call, "ciphertext")
    name = f"{key.resource['name']}/cryptoKeyVersions/{int.from_bytes(cipher[:4], 'big')}"
    version = key.versions.get(name)
    if version and version["state"] != "ENABLED":
        text = f"{name} is not enabled, current state is: {version['state']}."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    try:
        nonce, sealed = cipher[4 : 4 + NONCE_BYTES], cipher[4 + NONCE_BYTES :]
        plain = AESGCM(key.material[name]).decrypt(nonce, sealed, _extra(call))
    except (KeyError, InvalidTag, ValueError):
        raise ApiError(400, "Decryption failed: the ciphertext is invalid.") from None
    return {
        "plaintext": base64.b64encode(plain).decode(),
        "plaintextCrc32c": str(google_crc32c.value(plain)),
        "usedPrimary": name == key.resource.get("primary", {}).get("name"),
        "protectionLevel": "SOFTWARE",
    }


@SERVICE.method(f"{KEY}.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    name = _key(call).resource["name"]
    return call.world.of(Policies).get(name, policies.requested_version(call.query))


@SERVICE.method(f"{KEY}.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    return call.world.of(Policies).set(_key(call).resource["name"], call.body.get("policy", {}))


@SERVICE.method(f"{KEY}.testIamPermissions")
def test_permissions(call: Call) -> dict[str, Any]:
    _key(call)
    return held_permissions(call, permissions.KEY(call))


def _check_id(name: str, value: str) -> None:
    if not ID.fullmatch(value):
        raise ApiError(400, f"Invalid {name}: '{value}'. It must match {ID.pattern}.")


def _check_key(body: dict[str, Any]) -> None:
    check_labels(body.get("labels", {}))
    period = body.get("rotationPeriod")
    if period is None:
        return
    found = PERIOD.fullmatch(period)
    if not found or int(found[1]) < DAY_S:
        raise ApiError(400, "The rotation_period must be at least 24 hours.")
    if "nextRotationTime" not in body:
        raise ApiError(400, "A key with a rotation_period must have a next_rotation_time.")


def _bytes(call: Call, name: str) -> bytes:
    try:
        return base64.b64decode(call.body.get(name, ""), validate=True)
    except ValueError:
        raise ApiError(400, f"Invalid value at '{name}' (TYPE_BYTES)") from None


def _extra(call: Call) -> bytes:
    return _bytes(call, "additionalAuthenticatedData")
