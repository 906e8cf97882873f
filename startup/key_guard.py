"""vLLM's `--middleware`: the key on every path; --api-key leaves /invocations and others open.

Pure ASGI, standard library: it runs inside vLLM's own interpreter.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/metrics"})
REFUSAL = b'{"error":"Unauthorized"}'


class KeyGuard:
    """Lets a request through with the key, or to /health and /metrics; answers the rest with 401.

    Raises RuntimeError at start when VLLM_API_KEY is missing: no key must not mean no guard.
    """

    def __init__(self, app: App) -> None:
        key = os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("VLLM_API_KEY is not set: refusing to serve without a key")
        self._app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(REFUSAL)).encode()),
            ]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            return True
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        # One header, compared in constant time; two would leave open which one counts.
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
