"""Every fault by name, with the body that Google answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.rest import shortage
from local.rest.errors import ApiError, api_disabled
from local.rest.fault_kinds import CONTENT, LOOK, Effect, OperationError, Recipe, Scene
from local.rest.shortage import failed


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
    return failed(500, "INTERNAL SERVER ERROR", "INTERNAL_ERROR", text)


def _unsupported(scene: Scene, options: Mapping[str, Any]) -> OperationError:
    text = f"Instance '{scene.name}' creation failed: SPOT is not supported for this machine type."
    return failed(400, "BAD REQUEST", "UNSUPPORTED_OPERATION", text)


def _nothing(scene: Scene, options: Mapping[str, Any]) -> None:
    return None


ELSEWHERE = {"zonesAvailable": "us-central1-b,us-central1-c", "gpu": "nvidia-h100-80gb"}
SPOT_QUOTA = {"metric": "PREEMPTIBLE_NVIDIA_H100_GPUS", "limit": 0.0, "gpu_family": ""}
GLOBAL_QUOTA = {"metric": "GPUS_ALL_REGIONS", "limit": 0.0, "gpu_family": ""}

CATALOGUE: dict[str, Recipe] = {
    "stockout-with-details": Recipe(Effect.OPERATION, shortage.stockout, options=ELSEWHERE),
    "stockout-plain": Recipe(Effect.OPERATION, shortage.stockout_plain),
    "stockout-http-503": Recipe(Effect.ANSWER, shortage.stockout_http),
    "stockout-region": Recipe(Effect.OPERATION, shortage.stockout_region),
    "preempted-op": Recipe(Effect.OPERATION_AFTER, shortage.preempted),
    "quota-exceeded-op": Recipe(Effect.OPERATION, shortage.quota_operation, options=SPOT_QUOTA),
    "global-quota-op": Recipe(Effect.OPERATION, shortage.quota_operation, options=GLOBAL_QUOTA),
    "quota-http-403": Recipe(Effect.ANSWER, shortage.quota_http, options=SPOT_QUOTA),
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
