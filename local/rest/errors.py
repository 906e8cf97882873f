"""Errors as Google answers them: one exception, two renderings."""

from __future__ import annotations

from enum import Enum
from typing import Any

STATUS_TEXT = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
REASON = {
    400: "badRequest",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "alreadyExists",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
    503: "backendError",
}


class Style(Enum):
    """How a product writes its errors.

    LEGACY: Compute and Cloud Storage, with `errors[]` and a reason. RPC: google.rpc.Status.
    """

    LEGACY = "legacy"
    RPC = "rpc"


class ApiError(Exception):
    """What a handler raises to refuse. `reason` is used by LEGACY products only."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str | None = None,
        domain: str = "global",
        status_text: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason or REASON.get(status, "unknown")
        self.domain = domain
        self.status_text = status_text or STATUS_TEXT.get(status, "UNKNOWN")
        self.details = details or []

    def body(self, style: Style) -> dict[str, Any]:
        """The JSON that Google would send."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if style is Style.LEGACY:
            error["errors"] = [
                {"message": self.message, "domain": self.domain, "reason": self.reason}
            ]
        error["status"] = self.status_text
        if self.details:
            error["details"] = self.details
        return {"error": error}


def bad_request(violations: list[tuple[str, str]]) -> ApiError:
    """google.rpc.BadRequest: (field, description) pairs, the descriptions joined as the message."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": f, "description": d} for f, d in violations],
    }
    return ApiError(400, "\n".join(d for _, d in violations), details=[detail])


def api_disabled(api: str, title: str, project: str) -> ApiError:
    """The 403 of a service that is not enabled in `project`; `api` e.g. "run.googleapis.com"."""
    url = f"https://console.developers.google.com/apis/api/{api}/overview?project={project}"
    message = (
        f"{title} has not been used in project {project} before or it is disabled. "
        f"Enable it by visiting {url} then retry. If you enabled this API recently, "
        "wait a few minutes for the action to propagate to our systems and retry."
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": api, "consumer": f"projects/{project}"},
    }
    return ApiError(
        403, message, reason="accessNotConfigured", domain="usageLimits", details=[info]
    )
