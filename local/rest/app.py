"""The Flask app: finds the method, checks the call, asks the handler, renders the answer."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from flask import Flask, Request, Response, request

from local.rest.checks import check_body, check_path, check_query, shape_answer
from local.rest.discovery import Match, router
from local.rest.errors import ApiError, Style, api_disabled
from local.rest.fault_kinds import Effect, scene
from local.rest.faults import Fault
from local.rest.fields import masked
from local.rest.identity import authorize, bearer
from local.rest.service import Call, Registered, Service
from local.rest.world import World

LOG = logging.getLogger("local.rest")


def create_app(world: World, services: Iterable[Service] | None = None) -> Flask:
    """One app that serves `services` (all of them unless told) on this world's state."""
    from local.rest.control import install_control
    from local.rest.products import SERVICES

    app = Flask("local.rest")
    door = Door(world, tuple(SERVICES if services is None else services))
    install_control(app, world)
    for service in door.services:
        if service.install:
            service.install(app, world)
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app.add_url_rule("/<path:anything>", view_func=door.answer, methods=every)
    return app


class Door:
    """Every request that a discovery document describes comes through here."""

    def __init__(self, world: World, services: tuple[Service, ...]) -> None:
        self.world = world
        self.services = services
        self._owner = {name: s for s in services for name in s.mounts.values()}
        for service in services:
            service.check_handlers()
        self._router = router(tuple(m for s in services for m in s.mounts.items()))

    def answer(self, anything: str) -> Response:
        """The WSGI view. Every outcome is recorded in world.calls."""
        path = _raw_path(request)
        match = self._router.match(request.method, path)
        service = self._owner[match.method.document.name] if match else None
        style = service.style if service else Style.RPC
        record = {
            "t": self.world.clock(),
            "method": request.method,
            "path": request.full_path.rstrip("?"),
            "id": match.method.id if match else None,
            "principal": None,
        }
        try:
            response = self._serve(match, service, record)
        except ApiError as error:
            response = _json(error.body(style), error.status)
            if error.status == 401:
                response.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
        except _DroppedError:
            self.world.calls.add(**record, status="dropped")
            return drop(request)
        except Exception as error:
            # 501, not 500: clients retry a 500 for minutes and then hide what it was.
            LOG.exception("%s failed", record["id"])
            bug = ApiError(501, f"The local cloud failed: {type(error).__name__}: {error}")
            response = _json(bug.body(style), bug.status)
        self.world.calls.add(**record, status=response.status_code)
        return response

    def _serve(
        self, match: Match | None, service: Service | None, record: dict[str, Any]
    ) -> Response:
        principal = self.world.identity.access(
            bearer(request.headers.get("Authorization")) or request.args.get("access_token")
        )
        record["principal"] = principal.email
        if match is None or service is None:
            raise ApiError(404, "Method not found.")
        method = match.method
        body = _body(request)
        fault = self.world.faults.take(method.id, match.params, body)
        early = _early(fault, self.world, match, body)
        if early:
            raise early
        if service.api and not self.world.enabled(service.api):
            raise api_disabled(service.api, service.title, self.world.project)
        check_path(method, match.params, service.style)
        call = Call(
            world=self.world,
            method_id=method.id,
            version=method.document.name.partition(".")[2],
            params=match.params,
            query=check_query(method, request.args.to_dict(), service.style),
            body=check_body(method, body, service.style) or {},
            raw_body=body,
            principal=principal,
            headers=dict(request.headers),
            fault=fault,
        )
        registered = service.handlers.get(method.id)
        if registered is None:
            raise ApiError(501, f"The local cloud does not implement {method.id}.")
        authorize(call)
        answer = self._run(service, registered, call, match)
        late = _late(fault, self.world, match, body)
        if late:
            raise late
        return _json(masked(answer, request.args.get("fields")), 200)

    def _run(self, service: Service, registered: Registered, call: Call, match: Match) -> Any:
        with self.world.lock if registered.locked else nullcontext():
            # Shaped under the lock too: the answer may be a resource that others change.
            return self._shaped(service, match, registered.handler(call))

    def _shaped(self, service: Service, match: Match, answer: Any) -> Any:
        document = match.method.document
        shaped, unknown = shape_answer(answer or {}, document, match.method.response)
        if unknown and document.name == next(iter(service.mounts.values())):
            # Ours to mend: a field that Google does not have would teach clients to expect it.
            raise RuntimeError(f"{match.method.id} answers unknown {', '.join(sorted(unknown))}")
        return shaped


class _DroppedError(Exception):
    """The fault is a connection that closes without an answer."""


def _early(fault: Fault | None, world: World, match: Match, body: Any) -> Exception | None:
    if fault is None or fault.recipe.effect not in (Effect.ANSWER, Effect.DROP):
        return None
    if fault.recipe.effect is Effect.DROP:
        return _DroppedError()
    return _built(fault, world, match, body)


def _late(fault: Fault | None, world: World, match: Match, body: Any) -> Exception | None:
    if fault is None or fault.recipe.effect not in (Effect.ANSWER_AFTER, Effect.DROP_AFTER):
        return None
    if fault.recipe.effect is Effect.DROP_AFTER:
        return _DroppedError()
    return _built(fault, world, match, body)


def _built(fault: Fault, world: World, match: Match, body: Any) -> Exception:
    built = fault.recipe.build(scene(world.project, match.params, body), fault.options)
    if not isinstance(built, Exception):
        raise TypeError(f"fault {fault.name} builds no error")
    return built


def _raw_path(req: Request) -> str:
    """The path as sent: an object name may hold %2F."""
    raw = req.environ.get("REQUEST_URI") or req.environ.get("RAW_URI") or req.path
    path = str(raw).partition("?")[0]
    return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path


def _body(req: Request) -> Any:
    if not req.get_data():
        return None
    try:
        return json.loads(req.get_data())
    except ValueError as error:
        raise ApiError(
            400, f"Invalid JSON payload received. {error}", reason="parseError"
        ) from error


def _json(body: Any, status: int) -> Response:
    text = json.dumps(body, indent=2)
    return Response(text + "\n", status, content_type="application/json; charset=UTF-8")


def drop(req: Request) -> Response:
    """Close the connection without an answer."""
    sock = req.environ.get("werkzeug.socket")
    if sock is None:
        raise ConnectionAbortedError("dropped on request: there is no socket to close")
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        LOG.info("the client was gone before the drop: %s", error)
    return Response("", 200)
