"""Secrets, keys, quotas, budgets, switched-on APIs: what Google would refuse is refused."""

from __future__ import annotations

import base64
from typing import Any

import google_crc32c

from local.rest.serviceusage import Services
from local.rest.world import World
from tests.cloud.conftest import Api, message

SECRETS = "/secrets/v1/projects/proj/secrets"
KEY = f"{SECRETS}/api-key"
RINGS = "/kms/v1/projects/proj/locations/us-central1/keyRings"
QUOTAS = "/quotas/v1beta/projects/proj/locations/global"
BUDGETS = "/budgets/v1/billingAccounts/000000-111111-222222/budgets"
USAGE = "/serviceusage/v1/projects/proj/services"
AUTOMATIC = {"replication": {"automatic": {}}}


def refused(call: tuple[int, Any], status: int, text: str) -> bool:
    return call[0] == status and text in message(call[1])


def data(text: str, **fields: Any) -> dict[str, Any]:
    return {"payload": {"data": base64.b64encode(text.encode()).decode()} | fields}


def test_secret_is_refused_when_it_breaks_the_rules(api: Api) -> None:
    """Ids, replication, labels, base64 and checksums as Secret Manager wants them."""
    api.post(f"{SECRETS}?secretId=api-key", AUTOMATIC)
    bad_id = api.post(f"{SECRETS}?secretId=api.key", AUTOMATIC)
    nowhere = api.post(f"{SECRETS}?secretId=other", {})
    label = api.post(f"{SECRETS}?secretId=other", AUTOMATIC | {"labels": {"A": "b"}})
    taken = api.post(f"{SECRETS}?secretId=api-key", AUTOMATIC)
    empty = api.post(f"{KEY}:addVersion", {})
    text = api.post(f"{KEY}:addVersion", {"payload": {"data": "not base64!"}})
    wrong_sum = api.post(f"{KEY}:addVersion", data("a", dataCrc32c="1"))

    assert refused(bad_id, 400, "must match [A-Za-z0-9_-]{1,255}")
    assert refused(nowhere, 400, "Secret.replication")
    assert refused(label, 400, "Label key 'A'")
    assert refused(taken, 409, "already exists")
    assert refused(empty, 400, "SecretPayload.data")
    assert refused(text, 400, "Base64 decoding failed")
    assert refused(wrong_sum, 400, "does not match the provided data_crc32c")


def test_secret_version_is_read_until_it_is_disabled_or_destroyed(api: Api) -> None:
    """A node that reads a destroyed key must fail, not serve with an empty one."""
    api.post(f"{SECRETS}?secretId=api-key", AUTOMATIC)
    none = api.get(f"{KEY}/versions/latest:access")
    checksum = str(google_crc32c.value(b"one"))
    api.post(f"{KEY}:addVersion", data("one", dataCrc32c=checksum))
    api.post(f"{KEY}:addVersion", data("two"))

    _, latest = api.get(f"{KEY}/versions/latest:access")
    _, first = api.get(f"{KEY}/versions/1:access")
    api.post(f"{KEY}/versions/1:disable", {})
    disabled = api.get(f"{KEY}/versions/1:access")
    api.post(f"{KEY}/versions/1:enable", {})
    api.post(f"{KEY}/versions/1:destroy", {})
    destroyed = api.get(f"{KEY}/versions/1:access")
    revived = api.post(f"{KEY}/versions/1:enable", {})

    assert refused(none, 404, "not found or has no versions")
    assert base64.b64decode(latest["payload"]["data"]) == b"two"
    assert latest["name"] == "projects/123456789012/secrets/api-key/versions/2"
    assert first["payload"]["dataCrc32c"] == checksum
    assert refused(disabled, 400, "is in DISABLED state")
    assert refused(destroyed, 400, "is in DESTROYED state")
    assert refused(revived, 400, "is in DESTROYED state")


def test_secret_patch_changes_only_what_its_mask_names(api: Api) -> None:
    """The provider sends the whole secret beside the mask."""
    api.post(f"{SECRETS}?secretId=api-key", AUTOMATIC | {"labels": {"a": "b"}})

    _, changed = api("PATCH", f"{KEY}?updateMask=labels", {"labels": {"c": "d"}} | AUTOMATIC)
    fixed = api("PATCH", f"{KEY}?updateMask=replication", AUTOMATIC)

    assert changed["labels"] == {"c": "d"}
    assert refused(fixed, 400, "'replication' cannot be updated")


def test_key_encrypts_and_is_never_forgotten(api: Api) -> None:
    """A ring outlives `destroy`: a second foundation meets a 409, as at Google."""
    api.post(f"{RINGS}?keyRingId=mayfly")
    body = {"purpose": "ENCRYPT_DECRYPT"}
    short = api.post(f"{RINGS}/mayfly/cryptoKeys?cryptoKeyId=k", body | {"rotationPeriod": "60s"})
    api.post(f"{RINGS}/mayfly/cryptoKeys?cryptoKeyId=state", body)
    key = f"{RINGS}/mayfly/cryptoKeys/state"
    secret = {"plaintext": base64.b64encode(b"passphrase").decode()}

    sealed = api.post(f"{key}:encrypt", secret)[1]["ciphertext"]
    opened = api.post(f"{key}:decrypt", {"ciphertext": sealed})[1]
    spoilt = sealed[:-8] + ("AAAAAAA=" if not sealed.endswith("AAAAAAA=") else "BBBBBBA=")
    broken = api.post(f"{key}:decrypt", {"ciphertext": spoilt})
    api.post(f"{key}/cryptoKeyVersions/1:destroy", {})
    after = api.post(f"{key}:decrypt", {"ciphertext": sealed})

    assert refused(short, 400, "at least 24 hours")
    assert opened["plaintext"] == secret["plaintext"]
    assert refused(broken, 400, "the ciphertext is invalid")
    assert refused(after, 400, "DESTROY_SCHEDULED")
    assert refused(api.post(f"{RINGS}?keyRingId=mayfly"), 409, "already exists")


def test_quota_infos_show_what_may_run(api: Api) -> None:
    """The quota check reads limits by dimension, page by page."""
    path = f"{QUOTAS}/services/compute.googleapis.com/quotaInfos"
    _, first = api.get(f"{path}?pageSize=2")
    _, one = api.get(f"{path}/PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region")

    assert len(first["quotaInfos"]) == 2
    assert first["nextPageToken"]
    assert one["dimensions"] == ["region"]
    assert {"region": "us-central1"} in [d["dimensions"] for d in one["dimensionsInfos"]]
    assert isinstance(one["dimensionsInfos"][0]["details"]["value"], str)


def test_quota_preference_is_refused_when_the_quota_is_none(api: Api) -> None:
    """A misspelt quota would wait for an answer for ever."""
    path = f"{QUOTAS}/quotaPreferences?quotaPreferenceId=h100"
    body = {"service": "compute.googleapis.com", "quotaConfig": {"preferredValue": "8"}}

    unknown = api.post(path, body | {"quotaId": "H100-GPUS"})
    without = api.post(path, {"quotaId": "GPUS-ALL-REGIONS-per-project"})

    assert refused(unknown, 400, "Quota H100-GPUS")
    assert refused(without, 400, "Field service is required")


def test_budget_answers_projects_by_number(api: Api) -> None:
    """Given by name they come back as numbers: a program that gives names has a diff for ever."""
    body = {
        "amount": {"specifiedAmount": {"units": 50}},
        "budgetFilter": {"projects": ["projects/proj"]},
    }

    _, made = api.post(BUDGETS, body)
    both = api.post(BUDGETS, {"amount": {"specifiedAmount": {}, "lastPeriodAmount": {}}})

    assert made["budgetFilter"]["projects"] == ["projects/123456789012"]
    assert made["amount"]["specifiedAmount"] == {"currencyCode": "USD", "units": "50"}
    assert refused(both, 400, "Exactly one of")


def test_api_is_refused_until_it_is_switched_on(world: World, api: Api) -> None:
    """A foundation that forgets an API must fail here, not in the user's project."""
    world.of(Services).enforce()

    off = api.get(SECRETS)
    enabled = api.post(f"{USAGE}:batchEnable", {"serviceIds": ["secretmanager.googleapis.com"]})
    _, done = api.get(f"/serviceusage/v1/{enabled[1]['name']}")
    on = api.get(SECRETS)

    assert refused(off, 403, "Secret Manager API has not been used in project proj before")
    assert done["done"]
    assert done["response"]["services"][0]["state"] == "ENABLED"
    assert on[0] == 200


def test_api_is_refused_when_google_has_none_of_that_name(api: Api) -> None:
    """A typo in the list of APIs."""
    unknown = api.post(f"{USAGE}/secretsmanager.googleapis.com:enable", {})
    too_many = api.post(f"{USAGE}:batchEnable", {"serviceIds": ["run.googleapis.com"] * 21})

    assert refused(unknown, 404, "secretsmanager.googleapis.com")
    assert refused(too_many, 400, "between 1 and 20")
