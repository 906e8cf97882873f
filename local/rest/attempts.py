"""One run of a scheduler's job: the HTTP request, its deadline, its retries."""

from __future__ import annotations

import base64
import threading
from typing import Any
from urllib.parse import urlsplit

import urllib3

from local.rest.world import World

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# HTTP status -> google.rpc.Code, as a job's status shows it.
CODES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    409: 10,
    429: 8,
    499: 1,
    500: 13,
    501: 12,
    503: 14,
    504: 4,
}
DEADLINE_EXCEEDED, UNAVAILABLE, UNKNOWN = 4, 14, 2


class Attempts:
    """Sends jobs' requests. Nothing here ever leaves loopback."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = urllib3.PoolManager(retries=False)
        self._closed = threading.Event()
        world.on_close(self._closed.set)

    def run(self, job: dict[str, Any]) -> tuple[int, str]:
        """(google.rpc code, message) of the last attempt; 0 = done."""
        retry = job["retryConfig"]
        pause_s = _seconds(retry["minBackoffDuration"])
        longest_s = _seconds(retry["maxBackoffDuration"])
        outcome = self._once(job)
        for _ in range(retry.get("retryCount", 0)):
            speed = max(float(self._world.settings["scheduler_speedup"]), 1e-9)
            if not outcome[0] or self._closed.wait(pause_s / speed):
                break
            pause_s = min(pause_s * 2, longest_s)
            outcome = self._once(job)
        return outcome

    def _once(self, job: dict[str, Any]) -> tuple[int, str]:
        target = job.get("httpTarget")
        if target is None:
            return 12, "The local cloud sends HTTP targets only."
        if urlsplit(target["uri"]).hostname not in LOOPBACK:
            return UNAVAILABLE, f"The local cloud does not reach {target['uri']}."
        deadline_s = _seconds(job["attemptDeadline"])
        try:
            answer = self._pool.request(
                target["httpMethod"],
                target["uri"],
                body=base64.b64decode(target["body"]) if "body" in target else b"",
                headers=self._headers(job, target),
                redirect=False,
                timeout=urllib3.Timeout(total=deadline_s),
            )
        except urllib3.exceptions.TimeoutError:
            return DEADLINE_EXCEEDED, "URL_TIMEOUT-TIMEOUT_WEB: the attempt deadline passed"
        except urllib3.exceptions.HTTPError as error:
            return UNAVAILABLE, f"URL_UNREACHABLE: {error}"
        if 200 <= answer.status < 300:
            return 0, ""
        return CODES.get(
            answer.status, UNKNOWN
        ), f"URL_ERROR-ERROR_OTHER. Original HTTP response code number = {answer.status}"

    def _headers(self, job: dict[str, Any], target: dict[str, Any]) -> dict[str, str]:
        headers = {
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": job["name"].rsplit("/", 1)[1],
            "X-CloudScheduler-ScheduleTime": job.get("scheduleTime", ""),
        }
        if "body" in target:
            headers["Content-Type"] = "application/octet-stream"
        headers |= target.get("headers", {})
        identity = self._world.identity
        if oidc := target.get("oidcToken"):
            audience = oidc.get("audience") or target["uri"]
            token = identity.mint_id_token(oidc["serviceAccountEmail"], audience)
            headers["Authorization"] = f"Bearer {token}"
        if oauth := target.get("oauthToken"):
            headers["Authorization"] = f"Bearer {identity.mint(oauth['serviceAccountEmail'])}"
        return headers


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))
