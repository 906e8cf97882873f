"""Who may see the page: this machine's browser, by the URL that was printed, and nobody else.

Another web site that the same browser shows can send requests to 127.0.0.1, and its name can be
made to lead there. So each request must name this address (Host), each that changes something must
come from this page (Origin), and all that tells or does anything needs the cookie.
"""

import hmac
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mayfly.page.answers import refused

ENTER = "/enter"
OPEN_PATHS = frozenset({"/", "/static/enter.js", "/static/page.css", "/static/icon.svg"})
"""Without the cookie `/` is the door itself; none of these holds anything of the project's."""
READS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Keys:
    """The token in the printed URL, good once, and the cookie that it is swapped for."""

    def __init__(self, port: int) -> None:
        self.cookie_name = f"mayfly-{port}"  # cookies do not tell ports apart
        self.token: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)

    def swap(self, token: str) -> str | None:
        """The cookie for the token, the first time; None ever after and for any other."""
        if self.token is None or not _same(token, self.token):
            return None
        self.token = None
        return self._cookie

    def known(self, request: Request) -> bool:
        """Whether this browser has been let in."""
        return _same(request.cookies.get(self.cookie_name, ""), self._cookie)


class Door:
    """ASGI: lets a request through to the page, or answers it with why not."""

    def __init__(self, app: ASGIApp, keys: Keys, port: int) -> None:
        self._app, self._keys = app, keys
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websocket, and nothing to start or to end

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self.refusal(Request(scope)) or self._app
        await app(scope, receive, guarded)

    def refusal(self, request: Request) -> Response | None:
        """Why this request goes no further; None where it may."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return refused("This page answers to its own address only.")
        origins = request.headers.getlist("origin")
        if origins != [f"http://{hosts[0]}"] and (origins or request.method not in READS):
            return refused("This request comes from another site.")
        path = request.url.path
        if path == ENTER or path in OPEN_PATHS or self._keys.known(request):
            return None
        return refused("This browser has not been let in.")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
