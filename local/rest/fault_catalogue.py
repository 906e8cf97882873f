"""Every fault by name, with the body that Google answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from local.rest.errors import ApiError, api_disabled

HELP = "https://cloud.google.com/compute/docs/resource-error"
INSERT = "compute.instances.insert"
LOOK = "compute.instances.get"
CONTENT = "storage.objects.get"  # with where {"alt": "media"}: not its metadata


class Effect(Enum):
    """When and how a fault strikes."""

    ANSWER = "answer"  # instead of the call
    ANSWER_AFTER = "answer-after"  # the call takes effect, the answer says otherwise
    DROP = "drop"  # the connection closes; nothing happened
    DROP_AFTER = "drop-after"  # the connection closes; it did happen
    OPERATION = "operation"  # 200, then the operation fails
    SLOW = "slow"  # the operation runs for a while
    STATUS = "status"  # a read shows another status
    CORRUPT = "corrupt"  # an object's content arrives with one bit turned


@dataclass(frozen=True)
class Scene:
    """Where a fault strikes, for the texts that name it."""

    project: str
    zone: str
    name: str
    machine: str

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    @property
    def path(self) -> str:
        return f"projects/{self.project}/zones/{self.zone}/instances/{self.name}"


def scene(project: str, params: Mapping[str, str], body: Any) -> Scene:
    """What the texts need, from any call on an instance."""
    fields = body if isinstance(body, dict) else {}
    return Scene(
        project=params.get("project", project),
        zone=params.get("zone", "us-central1-a"),
        name=params.get("instance") or str(fields.get("name", "")),
        machine=str(fields.get("machineType", "")).rpartition("/")[2] or "a3-highgpu-8g",
    )


@dataclass(frozen=True)
class OperationError:
    """How an operation fails: one entry of `error.errors` and the HTTP status beside it."""

    status: int
    status_words: str
    entry: dict[str, Any]


Build = Callable[[Scene, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Recipe:
    """One fault. options: what an order may set, with its default."""

    effect: Effect
    build: Build
    method: str = INSERT
    options: Mapping[str, Any] = field(default_factory=dict)


def _stockout(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    others = str(options["zonesAvailable"]).split(",")
    family = str(options["gpu"])
    prose = (
        f"A {scene.machine} VM instance with 8 {family} accelerator(s) is currently unavailable "
        f"in the {scene.zone} zone. Consider trying your request in the {', '.join(others)} "
        "zone(s), which currently has capacity to accommodate your request. Alternatively, you "
        "can try your request again with a different VM hardware configuration or at a later "
        "time. For more information, see the troubleshooting documentation."
    )
    details = [
        {"help": {"links": [{"description": "Troubleshooting documentation", "url": HELP}]}},
        {"localizedMessage": {"locale": "en-US", "message": prose}},
        {
            "errorInfo": {
                "domain": "compute.googleapis.com",
                "reason": "resource_availability",
                "metadatas": {
                    "attachment": f"{family}:8",
                    "vmType": scene.machine,
                    "zone": scene.zone,
                    "zonesAvailable": ",".join(others),
                },
            }
        },
    ]
    return _failed(
        503,
        "SERVICE UNAVAILABLE",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        f"The zone 'projects/{scene.project}/zones/{scene.zone}' does not have enough resources "
        "available to fulfill the request. '(resource type:compute)'.",
        details,
    )


def _stockout_plain(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    return _failed(503, "SERVICE UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED", _no_room(scene))


def _stockout_http(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(503, _no_room(scene), reason="ZONE_RESOURCE_POOL_EXHAUSTED")


def _no_room(scene: Scene) -> str:
    return (
        f"The zone 'projects/{scene.project}/zones/{scene.zone}' does not have enough resources "
        "available to fulfill the request.  Try a different zone, or try again later."
    )


def _failed(
    status: int, words: str, code: str, message: str, details: list[Any] | None = None
) -> OperationError:
    entry: dict[str, Any] = {"code": code, "message": message}
    if details:
        entry["errorDetails"] = details
    return OperationError(status, words, entry)


def _quota_text(scene: Scene, metric: str, limit: float) -> str:
    place = "globally." if metric == "GPUS_ALL_REGIONS" else f"in region {scene.region}."
    return f"Quota '{metric}' exceeded.  Limit: {limit} {place}"


def _quota_operation(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    metric, limit = str(options["metric"]), float(options["limit"])
    everywhere = metric == "GPUS_ALL_REGIONS"
    dashed = metric.replace("_", "-")
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{dashed}-per-project" + ("" if everywhere else "-region"),
        "limit": limit,
        "dimensions": {"global": "global"} if everywhere else {"region": scene.region},
    }
    return _failed(
        403,
        "FORBIDDEN",
        "QUOTA_EXCEEDED",
        _quota_text(scene, metric, limit),
        [{"quotaInfo": info}],
    )


def _quota_http(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    text = _quota_text(scene, str(options["metric"]), float(options["limit"]))
    return ApiError(403, text, reason="quotaExceeded", domain="usageLimits")


def _permission(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(403, f"Required '{options['permission']}' permission for '{scene.path}'")


def _api_off(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return api_disabled("compute.googleapis.com", "Compute Engine API", scene.project)


def _billing(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    url = f"https://console.developers.google.com/billing/enable?project={scene.project}"
    return ApiError(
        403,
        "This API method requires billing to be enabled. Please enable billing on project "
        f"#{scene.project} by visiting {url} then retry.",
    )


def _policy(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    constraint = "constraints/compute.vmExternalIpAccess"
    return ApiError(
        412,
        f"Constraint {constraint} violated for project {scene.project}. Add instance "
        f"{scene.path} to the constraint to use external IP with it.",
    )


def _bad_machine(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    link = f"projects/{scene.project}/zones/{scene.zone}/machineTypes/{scene.machine}"
    return ApiError(
        400,
        f"Invalid value for field 'resource.machineType': '{link}'. Machine type with name "
        f"'{scene.machine}' does not exist in zone '{scene.zone}'.",
        reason="invalid",
    )


def _exists(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(409, f"The resource '{scene.path}' already exists")


def _network_gone(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    link = f"projects/{scene.project}/global/networks/default"
    return ApiError(404, f"The resource '{link}' was not found")


def _instance_gone(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(404, f"The resource '{scene.path}' was not found")


def _unauthenticated(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential.",
    )


def _unavailable(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    status = int(options["status"])
    texts = {500: "Internal error encountered.", 502: "Bad Gateway"}
    return ApiError(status, texts.get(status, "The service is currently unavailable."))


def _too_fast(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(
        429,
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
        "'compute.googleapis.com' for consumer 'project_number:123456789012'.",
        domain="usageLimits",
    )


def _too_fast_403(scene: Scene, options: Mapping[str, Any]) -> ApiError:
    return ApiError(403, "Rate Limit Exceeded", reason="rateLimitExceeded", domain="usageLimits")


def _internal(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    text = "Internal error. Please try again or contact Google Support. (Code: '-123456789')"
    return _failed(500, "INTERNAL SERVER ERROR", "INTERNAL_ERROR", text)


def _unsupported(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    text = f"Instance '{scene.name}' creation failed: SPOT is not supported for this machine type."
    return _failed(400, "BAD REQUEST", "UNSUPPORTED_OPERATION", text)


def _nothing(scene: Scene, options: Mapping[str, Any]) -> None:
    return None


ELSEWHERE = {"zonesAvailable": "us-central1-b,us-central1-c", "gpu": "nvidia-h100-80gb"}
SPOT_QUOTA = {"metric": "PREEMPTIBLE_NVIDIA_H100_GPUS", "limit": 0.0}

CATALOGUE: dict[str, Recipe] = {
    "stockout-with-details": Recipe(Effect.OPERATION, _stockout, options=ELSEWHERE),
    "stockout-plain": Recipe(Effect.OPERATION, _stockout_plain),
    "stockout-http-503": Recipe(Effect.ANSWER, _stockout_http),
    "quota-exceeded-op": Recipe(Effect.OPERATION, _quota_operation, options=SPOT_QUOTA),
    "global-quota-op": Recipe(
        Effect.OPERATION, _quota_operation, options={"metric": "GPUS_ALL_REGIONS", "limit": 0.0}
    ),
    "quota-http-403": Recipe(Effect.ANSWER, _quota_http, options=SPOT_QUOTA),
    "permission-http-403": Recipe(
        Effect.ANSWER, _permission, options={"permission": "compute.instances.create"}
    ),
    "api-off-http-403": Recipe(Effect.ANSWER, _api_off),
    "billing-http-403": Recipe(Effect.ANSWER, _billing),
    "org-policy-http-412": Recipe(Effect.ANSWER, _policy),
    "bad-request-http-400": Recipe(Effect.ANSWER, _bad_machine),
    "already-exists-http-409": Recipe(Effect.ANSWER, _exists),
    "not-found-http-404": Recipe(Effect.ANSWER, _network_gone),
    "unauthenticated-http-401": Recipe(Effect.ANSWER, _unauthenticated, method="*"),
    "http-5xx": Recipe(Effect.ANSWER, _unavailable, options={"status": 503}),
    "http-5xx-after": Recipe(Effect.ANSWER_AFTER, _unavailable, options={"status": 503}),
    "rate-limit-http-429": Recipe(Effect.ANSWER, _too_fast),
    "rate-limit-http-403": Recipe(Effect.ANSWER, _too_fast_403),
    "dropped-before": Recipe(Effect.DROP, _nothing),
    "dropped-after": Recipe(Effect.DROP_AFTER, _nothing),
    "internal-error-op": Recipe(Effect.OPERATION, _internal),
    "unsupported-op": Recipe(Effect.OPERATION, _unsupported),
    "slow-operation": Recipe(
        Effect.SLOW, _nothing, method="compute.*", options={"polls": 2, "seconds": 0.0}
    ),
    "status": Recipe(Effect.STATUS, _nothing, method=LOOK, options={"status": "STAGING"}),
    "gone": Recipe(Effect.ANSWER, _instance_gone, method=LOOK),
    "corrupted-content": Recipe(Effect.CORRUPT, _nothing, method=CONTENT),
}
