"""The page's server: what it shows is read, what it does is a POST, and both pass the door."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from mayfly.errors import WrongInputError, explained
from mayfly.page import chat
from mayfly.page.answers import failed, refused
from mayfly.page.desk import Desk
from mayfly.page.door import ENTER, Door, Keys

STATIC = Path(__file__).with_name("static")
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
LARGEST_BODY = 8 * 2**20

Handler = Callable[[Request], Awaitable[Response]]


def make(desk: Desk, keys: Keys, port: int) -> ASGIApp:
    """The whole of it, behind its door."""
    page = Page(desk, keys)
    routes = [
        Route("/", page.index),
        Route("/static/{name}", page.static),
        Route(ENTER, told(page.enter), methods=["POST"]),
        Route("/sessions", told(page.sessions)),
        Route("/ledger", told(page.ledger)),
        *(Route(f"/{verb}", told(partial(page.act, verb)), methods=["POST"]) for verb in ACTIONS),
        Route("/chat", told(page.chat), methods=["POST"]),
    ]
    return Door(Starlette(routes=routes), keys, port)


def told(handler: Handler) -> Handler:
    """The handler, its errors in three lines of JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            return failed(explained(error))

    return answer


ACTIONS = ("keep", "release", "down", "connect", "disconnect")


class Page:
    """One method a route."""

    def __init__(self, desk: Desk, keys: Keys) -> None:
        self._desk, self._keys = desk, keys
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir()}

    async def index(self, request: Request) -> Response:
        """The page; to a browser that was not let in, its door."""
        known = self._keys.known(request)
        name, status = ("page.html", 200) if known else ("enter.html", 403)
        return Response(self._files[name], status, media_type="text/html")

    async def static(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        if name not in self._files:
            return refused(f"There is no {name}.")
        return Response(self._files[name], media_type=TYPES[Path(name).suffix])

    async def enter(self, request: Request) -> Response:
        """The token for the cookie, once."""
        cookie = self._keys.swap(str((await body(request)).get("token", "")))
        if cookie is None:
            return refused("This URL has been used, or is another dashboard's.")
        answer = JSONResponse({})
        answer.set_cookie(self._keys.cookie_name, cookie, httponly=True, samesite="strict")
        return answer

    async def sessions(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._desk.sessions))

    async def ledger(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._desk.ledger))

    async def act(self, verb: str, request: Request) -> Response:
        """One of ACTIONS on one machine, named by session and number."""
        sent = await body(request)
        await run_in_threadpool(
            self._desk.act, verb, str(sent.get("session")), str(sent.get("vm_id")), sent
        )
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        """The endpoint's answer as it streams; the line is opened if there is none."""
        sent = await body(request)
        conversation = chat.messages(sent.get("messages"))
        line = await run_in_threadpool(
            self._desk.line, str(sent.get("session")), str(sent.get("vm_id"))
        )
        answer = chat.Answer(line, conversation)
        await answer.start()
        return StreamingResponse(answer.chunks(), media_type="text/event-stream")


async def body(request: Request) -> dict[str, Any]:
    """A POST's JSON object. WrongInputError for another type, form or size."""
    if request.headers.get("content-type") != "application/json":
        raise WrongInputError("A request to this page is JSON.", "Nothing was attempted.")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise WrongInputError("This request is too large.", "Nothing was attempted.")
    try:
        sent = json.loads(data)
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise WrongInputError("A request to this page is a JSON object.", "Nothing was attempted.")
    return sent
