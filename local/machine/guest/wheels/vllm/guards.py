"""What stands before the routes: the key, the request counter."""

import hashlib
import secrets
import time
from typing import Any

from starlette.responses import JSONResponse

from vllm.metrics import Metrics

GUARDED = ("/v1", "/v2", "/inference")
UNCOUNTED = ("/metrics", "/health", "/load", "/ping", "/version")


class Authentication:
    """--api-key: only the guarded prefixes ask for it."""

    def __init__(self, app: Any, tokens: list[str]) -> None:
        self.app = app
        self.digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (
            scope["type"] not in ("http", "websocket")
            or scope.get("method") == "OPTIONS"
            or not scope["path"].startswith(GUARDED)
            or self._known(scope)
        ):
            await self.app(scope, receive, send)
            return
        response = JSONResponse({"error": "Unauthorized"}, status_code=401)
        await response(scope, receive, send)

    def _known(self, scope: Any) -> bool:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(key).digest()
        hits = [secrets.compare_digest(digest, known) for known in self.digests]
        return scheme.lower() == b"bearer" and any(hits)


class Count:
    """http_requests_total and its durations."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            handler = "none" if status in (404, 405) else scope["path"]
            key = (handler, scope["method"], f"{status // 100}xx")
            self.metrics.add_http(key, time.monotonic() - begun)
