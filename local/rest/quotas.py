"""Cloud Quotas: what the project may use, and what it would like to."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from local.rest.errors import ApiError
from local.rest.masks import apply_mask, check_etag, new_etag
from local.rest.quota_limits import born, limit
from local.rest.service import Call, Service, require_project
from local.rest.times import stamp
from local.rest.world import World

SERVICE = Service(
    {"/quotas/v1beta/": "cloudquotas.v1beta", "/quotas/v1/": "cloudquotas.v1beta"},
    api="cloudquotas.googleapis.com",
    title="Cloud Quotas API",
)
INFOS = "cloudquotas.projects.locations.services.quotaInfos"
PREFERENCES = "cloudquotas.projects.locations.quotaPreferences"
ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
CHANGEABLE = frozenset(
    ("quotaConfig", "justification", "contactEmail", "dimensions", "etag", "service", "quotaId")
)


class Quotas:
    """limits: quota id -> [(dimensions, value)] of Compute; preferences by full name.

    The only place where a limit is written: what Cloud Quotas and Compute show and what an insert
    is refused by are read from here.
    """

    def __init__(self, world: World) -> None:
        self.preferences: dict[str, dict[str, Any]] = {}
        self.limits = born()

    def limit(self, quota_id: str, dimensions: Mapping[str, str]) -> int | None:
        """The value that counts there; None: no such limit is listed."""
        return limit(self.limits, quota_id, dimensions)

    def granted(self, quota_id: str, dimensions: dict[str, str]) -> int:
        return self.limit(quota_id, dimensions) or 0


def _parent(call: Call) -> str:
    require_project(call, call["projectsId"])
    if call["locationsId"] != "global":
        raise ApiError(400, f"Location {call['locationsId']} is not supported. Use global.")
    return f"projects/{call.world.project}/locations/global"


def _info(call: Call, quota_id: str) -> dict[str, Any]:
    service = call["servicesId"]
    entries = call.world.of(Quotas).limits[quota_id]
    dimensions = sorted({key for d, _ in entries for key in d})
    return {
        "name": f"{_parent(call)}/services/{service}/quotaInfos/{quota_id}",
        "quotaId": quota_id,
        "metric": f"{service}/{quota_id.split('-per-')[0].lower().replace('-', '_')}",
        "service": service,
        "isPrecise": True,
        "containerType": "PROJECT",
        "dimensions": dimensions,
        "metricDisplayName": quota_id.split("-per-")[0].replace("-", " ").capitalize(),
        "quotaDisplayName": quota_id.replace("-", " "),
        "metricUnit": "1",
        "isFixed": False,
        "isConcurrent": True,
        "quotaIncreaseEligibility": {"isEligible": True},
        "dimensionsInfos": [
            {"dimensions": d, "details": {"value": str(value)}}
            | ({"applicableLocations": [d["region"]]} if "region" in d else {})
            for d, value in entries
        ],
    }


@SERVICE.method(f"{INFOS}.list")
def list_infos(call: Call) -> dict[str, Any]:
    _parent(call)
    if call["servicesId"] != "compute.googleapis.com":
        return {}
    size = int(call.query.get("pageSize") or 0) or 1000
    start = int(call.query.get("pageToken") or 0)
    ids = sorted(call.world.of(Quotas).limits)
    answer: dict[str, Any] = {"quotaInfos": [_info(call, i) for i in ids[start : start + size]]}
    if start + size < len(ids):
        answer["nextPageToken"] = str(start + size)
    return answer


@SERVICE.method(f"{INFOS}.get")
def get_info(call: Call) -> dict[str, Any]:
    _parent(call)
    if call["quotaInfosId"] not in call.world.of(Quotas).limits:
        raise ApiError(404, f"Quota info {call['quotaInfosId']} was not found.")
    return _info(call, call["quotaInfosId"])


@SERVICE.method(f"{PREFERENCES}.create")
def create(call: Call) -> dict[str, Any]:
    parent, quotas = _parent(call), call.world.of(Quotas)
    preference_id = call.query.get("quotaPreferenceId") or f"preference-{secrets.token_hex(4)}"
    if not ID.fullmatch(preference_id):
        raise ApiError(400, f"Invalid quota preference id: {preference_id}.")
    name = f"{parent}/quotaPreferences/{preference_id}"
    if name in quotas.preferences:
        raise ApiError(409, f"Resource '{name}' already exists")
    for field in ("service", "quotaId", "quotaConfig"):
        if not call.body.get(field):
            raise ApiError(400, f"Field {field} is required.")
    if call.body["quotaId"] not in quotas.limits:
        raise ApiError(
            400, f"Quota {call.body['quotaId']} of service {call.body['service']} does not exist."
        )
    for held in quotas.preferences.values():
        same = ("service", "quotaId", "dimensions")
        if all(held.get(k) == call.body.get(k) for k in same):
            raise ApiError(
                409, f"A quota preference for this quota and dimensions exists: {held['name']}."
            )
    preference = {k: v for k, v in call.body.items() if k not in ("name", "etag")} | {
        "name": name,
        "createTime": stamp(call.world.clock()),
    }
    quotas.preferences[name] = preference
    return _settled(call.world, preference)


@SERVICE.method(f"{PREFERENCES}.get")
def get(call: Call) -> dict[str, Any]:
    name = f"{_parent(call)}/quotaPreferences/{call['quotaPreferencesId']}"
    found = call.world.of(Quotas).preferences.get(name)
    if found is None:
        raise ApiError(404, f"The resource '{name}' was not found")
    return found


@SERVICE.method(f"{PREFERENCES}.list")
def list_preferences(call: Call) -> dict[str, Any]:
    _parent(call)
    return {"quotaPreferences": list(call.world.of(Quotas).preferences.values())}


@SERVICE.method(f"{PREFERENCES}.patch")
def patch(call: Call) -> dict[str, Any]:
    preference = get(call)
    check_etag(preference, call.body)
    apply_mask(preference, call.body, call.query.get("updateMask"), CHANGEABLE)
    return _settled(call.world, preference)


def _settled(world: World, preference: dict[str, Any]) -> dict[str, Any]:
    """What Google's side says of it: nothing is granted by itself, a person decides."""
    config = {
        "preferredValue": str(preference["quotaConfig"].get("preferredValue", "0")),
        "grantedValue": str(
            world.of(Quotas).granted(preference["quotaId"], preference.get("dimensions", {}))
        ),
        "requestOrigin": "ORIGIN_UNSPECIFIED",
        "traceId": secrets.token_hex(8),
    }
    if annotations := preference["quotaConfig"].get("annotations"):
        config["annotations"] = annotations
    preference |= {
        "quotaConfig": config,
        "reconciling": False,
        "updateTime": stamp(world.clock()),
        "etag": new_etag(),
    }
    return preference
