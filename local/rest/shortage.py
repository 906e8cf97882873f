"""How Google says that there is no room, or no quota for more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.rest.errors import ApiError
from local.rest.fault_kinds import OperationError, Scene

HELP = "https://cloud.google.com/compute/docs/resource-error"
EVERYWHERE = "_ALL_REGIONS"
Options = Mapping[str, Any]


def failed(
    status: int, words: str, code: str, message: str, details: list[Any] | None = None
) -> OperationError:
    """An operation's one error; words: the HTTP status in words."""
    entry: dict[str, Any] = {"code": code, "message": message}
    if details:
        entry["errorDetails"] = details
    return OperationError(status, words, entry)


def stockout(scene: Scene, options: Options) -> OperationError:
    """Naming zones that have room."""
    others = str(options["zonesAvailable"]).split(",")
    family = str(options["gpu"])
    prose = (
        f"A {scene.machine} VM instance with 8 {family} accelerator(s) is currently unavailable "
        f"in the {scene.zone} zone. Consider trying your request in the {', '.join(others)} "
        "zone(s), which currently has capacity to accommodate your request. Alternatively, you "
        "can try your request again with a different VM hardware configuration or at a later "
        "time. For more information, see the troubleshooting documentation."
    )
    metadatas = {
        "attachment": f"{family}:8",
        "vmType": scene.machine,
        "zone": scene.zone,
        "zonesAvailable": ",".join(others),
    }
    details = [
        {"help": {"links": [{"description": "Troubleshooting documentation", "url": HELP}]}},
        {"localizedMessage": {"locale": "en-US", "message": prose}},
        {
            "errorInfo": {
                "domain": "compute.googleapis.com",
                "reason": "resource_availability",
                "metadatas": metadatas,
            }
        },
    ]
    return failed(
        503,
        "SERVICE UNAVAILABLE",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        f"The zone 'projects/{scene.project}/zones/{scene.zone}' does not have enough resources "
        "available to fulfill the request. '(resource type:compute)'.",
        details,
    )


def stockout_plain(scene: Scene, options: Options) -> OperationError:
    return failed(503, "SERVICE UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED", _no_room(scene))


def stockout_http(scene: Scene, options: Options) -> ApiError:
    return ApiError(503, _no_room(scene), reason="ZONE_RESOURCE_POOL_EXHAUSTED")


def stockout_region(scene: Scene, options: Options) -> OperationError:
    text = (
        f"The region 'projects/{scene.project}/regions/{scene.region}' does not have enough "
        "resources available to fulfill the request."
    )
    return failed(503, "SERVICE UNAVAILABLE", "REGION_RESOURCE_POOL_EXHAUSTED", text)


def preempted(scene: Scene, options: Options) -> OperationError:
    text = f"Instance '{scene.name}' was preempted while it was being created."
    return failed(409, "CONFLICT", "PREEMPTED", text)


def _no_room(scene: Scene) -> str:
    return (
        f"The zone 'projects/{scene.project}/zones/{scene.zone}' does not have enough resources "
        "available to fulfill the request.  Try a different zone, or try again later."
    )


def quota_operation(scene: Scene, options: Options) -> OperationError:
    metric, limit = str(options["metric"]), float(options["limit"])
    everywhere = metric.endswith(EVERYWHERE)
    dashed = metric.replace("_", "-")
    place = {"global": "global"} if everywhere else {"region": scene.region}
    family = {"gpu_family": options["gpu_family"]} if options.get("gpu_family") else {}
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{dashed}-per-project" + ("" if everywhere else "-region"),
        "limit": limit,
        "dimensions": place | family,
    }
    text = _quota_text(scene, metric, limit)
    return failed(403, "FORBIDDEN", "QUOTA_EXCEEDED", text, [{"quotaInfo": info}])


def quota_http(scene: Scene, options: Options) -> ApiError:
    text = _quota_text(scene, str(options["metric"]), float(options["limit"]))
    return ApiError(403, text, reason="quotaExceeded", domain="usageLimits")


def _quota_text(scene: Scene, metric: str, limit: float) -> str:
    place = "globally." if metric.endswith(EVERYWHERE) else f"in region {scene.region}."
    return f"Quota '{metric}' exceeded.  Limit: {limit} {place}"
