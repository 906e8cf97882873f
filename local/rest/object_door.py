"""Object calls, answered before Flask would decode their paths or read their bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from xml.sax.saxutils import escape

from flask import Response, request

from local.rest.app import drop
from local.rest.errors import ApiError, Style
from local.rest.fault_kinds import Effect, scene
from local.rest.faults import Fault
from local.rest.identity import OWNER, Principal, bearer, refusal
from local.rest.object_rights import NEEDS, Rights
from local.rest.objects import Objects
from local.rest.permissions import object_place
from local.rest.storage_paths import Target, parse
from local.rest.world import World

NO_BUCKET = "The specified bucket does not exist."
# HTTP status -> the XML API's word for it.
XML_CODES = {
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    429: "SlowDown",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}
VERBS = {"GET": "get", "HEAD": "get", "DELETE": "delete", "PATCH": "patch", "PUT": "update"}


class DroppedError(Exception):
    """The connection is to close without an answer."""


def method_id(target: Target, verb: str) -> str:
    """The discovery document's name for what a path and a verb mean."""
    names = {"list": "list", "compose": "compose", "upload": "insert"}
    name = names.get(target.kind) or VERBS.get(verb, "get")
    if target.kind == "copy":
        name = "rewrite" if target.verb == "rewriteTo" else "copy"
    return f"storage.objects.{name}"


def alt(target: Target) -> str:
    """ "media" where the content is asked for, as `alt` says it in the JSON API."""
    if target.kind in ("download", "xml"):
        return "media"
    return request.args.get("alt", "json")


def spoiled(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same length, another first bit."""
    rest = iter(blocks)
    for first in rest:
        yield bytes([first[0] ^ 1]) + first[1:] if first else first
        if first:
            break
    yield from rest


def _play(fault: Fault | None, world: World, effects: tuple[Effect, Effect]) -> None:
    """Raise what an ordered fault wants now: an error (the first effect) or a drop (the second)."""
    if fault is None or fault.recipe.effect not in effects:
        return
    if fault.recipe.effect is effects[1]:
        raise DroppedError
    built = fault.recipe.build(scene(world.project, {}, None), fault.options)
    if not isinstance(built, ApiError):
        raise TypeError(f"fault {fault.name} is no answer to a storage call")
    raise built


class ObjectDoor:
    """Answers object calls before Flask would decode their paths or read their bodies."""

    def __init__(
        self, world: World, objects: Callable[[], Objects], require: Callable[[str], None]
    ) -> None:
        self._world = world
        self._objects = objects
        self._require = require

    def answer(self) -> Response | None:
        """The answer to an object call; None leaves the request to everybody else."""
        raw = str(request.environ.get("REQUEST_URI") or request.path).partition("?")[0]
        target = parse(raw)
        if target is None:
            return None
        called = method_id(target, request.method)
        params = {"bucket": target.bucket, "object": target.name, "alt": alt(target)}
        fault = self._world.faults.take(called, params, None)
        caller, status = None, "dropped"
        try:
            _play(fault, self._world, (Effect.ANSWER, Effect.DROP))
            caller = self._principal()
            response = self._permitted(target, called, Rights(self._world, caller))
            _play(fault, self._world, (Effect.ANSWER_AFTER, Effect.DROP_AFTER))
            if fault is not None and fault.recipe.effect is Effect.CORRUPT:
                response.response = spoiled(response.iter_encoded())
            status = str(response.status_code)
        except ApiError as error:
            response, status = _refusal(error, target), str(error.status)
        except DroppedError:
            response = drop(request)
        self._world.calls.add(
            t=self._world.clock(),
            method=request.method,
            path=request.full_path.rstrip("?"),
            id=called,
            principal=caller.email if caller else None,
            status=int(status) if status.isdigit() else status,
        )
        return response

    def _principal(self) -> Principal | None:
        """Whose call it is; None is nobody's.

        STORAGE_EMULATOR_HOST makes Google's clients leave out their token: such a call is its
        owner's whose emulator door it came through (`servers.Door`), elsewhere nobody's.
        """
        token = bearer(request.headers.get("Authorization")) or request.args.get("access_token")
        if token:
            return self._world.identity.access(token)
        owner: Principal | None = request.environ.get(OWNER)
        # The address of an upload under way is a key of its own: its chunks carry no token.
        return self._objects().uploader(request) or owner

    def _permitted(self, target: Target, called: str, rights: Rights) -> Response:
        """Answer what this caller may ask. Who may not list does not learn what is not there."""
        self._require(target.bucket)
        for verb in NEEDS[called]:
            rights.need(verb, target.bucket, target.name)
        try:
            return self._serve(target, rights)
        except ApiError as error:
            if error.status == 404 and target.name and not rights.may_list(target.bucket):
                verb = (*NEEDS[called], "get")[0]
                place = object_place(target.bucket, target.name)
                raise refusal(rights.caller, f"storage.objects.{verb}", place) from error
            raise

    def _serve(self, target: Target, rights: Rights) -> Response:
        objects = self._objects()
        verb = (request.headers.get("X-HTTP-Method-Override") or request.method).upper()
        bucket, name = target.bucket, target.name
        match (target.kind, verb):
            case ("list", "GET"):
                return objects.list(request, bucket)
            case ("object", "GET"):
                return objects.get(request, bucket, name)
            case ("download" | "xml", "GET" | "HEAD"):
                return objects.media(request, bucket, name)
            case ("object" | "xml", "DELETE"):
                return objects.delete(request, bucket, name)
            case ("object", "PATCH" | "PUT"):
                return objects.patch(request, bucket, name)
            case ("copy", "POST"):
                return objects.copy(request, target.verb, (bucket, name), target.other, rights)
            case ("compose", "POST"):
                return objects.compose(request, bucket, name, rights)
            case ("upload", "POST" | "PUT") if "upload_id" in request.args:
                return objects.chunk(request)
            case ("upload", "POST"):
                return objects.insert(request, bucket, rights)
            case ("upload", "DELETE"):
                return objects.cancel(request)
        raise ApiError(501, f"The local cloud does not implement {verb} of this storage path.")


def _refusal(error: ApiError, target: Target) -> Response:
    """JSON, or for the XML API and downloads what they answer."""
    if error.status == 304:
        return Response(b"", 304)
    if target.kind == "xml":
        code = XML_CODES.get(error.status, "InvalidArgument")
        if error.message == NO_BUCKET:
            code = "NoSuchBucket"
        text = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{code}</Code><Message>{escape(error.message)}</Message></Error>"
        )
        return Response(text, error.status, content_type="application/xml; charset=UTF-8")
    if request.args.get("alt") == "media" or target.kind == "download":
        return Response(error.message, error.status, content_type="text/html; charset=UTF-8")
    response = Response(json.dumps(error.body(Style.LEGACY)), error.status)
    response.content_type = "application/json; charset=UTF-8"
    return response
