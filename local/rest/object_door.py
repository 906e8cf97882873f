"""Object calls, answered before Flask would decode their paths or read their bodies."""

from __future__ import annotations

import json
from collections.abc import Callable

from flask import Response, request

from local.rest.errors import ApiError, Style
from local.rest.identity import bearer
from local.rest.objects import Objects
from local.rest.storage_paths import Target, parse
from local.rest.world import World

NO_BUCKET = "The specified bucket does not exist."


class ObjectDoor:
    """Answers object calls before Flask would decode their paths or read their bodies."""

    def __init__(self, world: World, objects: Callable[[], Objects]) -> None:
        self._world = world
        self._objects = objects

    def answer(self) -> Response | None:
        """The answer to an object call; None leaves the request to everybody else."""
        raw = str(request.environ.get("REQUEST_URI") or request.path).partition("?")[0]
        target = parse(raw)
        if target is None:
            return None
        method_id, email = f"storage.objects.{target.kind}", None
        try:
            email = self._principal()
            response = self._serve(target, email)
        except ApiError as error:
            response = _refusal(error, target)
        self._world.calls.add(
            t=self._world.clock(),
            method=request.method,
            path=request.full_path.rstrip("?"),
            id=method_id,
            principal=email,
            status=response.status_code,
        )
        return response

    def _principal(self) -> str:
        """Whose call it is.

        STORAGE_EMULATOR_HOST makes Google's clients leave out their token: the local user's calls.
        """
        token = bearer(request.headers.get("Authorization")) or request.args.get("access_token")
        identity = self._world.identity
        return (identity.access(token) if token else identity.user).email

    def _serve(self, target: Target, email: str) -> Response:
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
                return objects.copy(request, target.verb, (bucket, name), target.other)
            case ("compose", "POST"):
                return objects.compose(request, bucket, name)
            case ("upload", "POST" | "PUT") if "upload_id" in request.args:
                return objects.chunk(request)
            case ("upload", "POST"):
                return objects.insert(request, bucket, email)
            case ("upload", "DELETE"):
                return objects.cancel(request)
        raise ApiError(501, f"The local cloud does not implement {verb} of this storage path.")


def _refusal(error: ApiError, target: Target) -> Response:
    """JSON, or for the XML API and downloads what they answer."""
    if error.status == 304:
        return Response(b"", 304)
    if target.kind == "xml":
        code = {404: "NoSuchKey", 412: "PreconditionFailed", 401: "AccessDenied"}.get(
            error.status, "InvalidArgument"
        )
        if error.message == NO_BUCKET:
            code = "NoSuchBucket"
        text = (
            "<?xml version='1.0' "
            f"encoding='UTF-8'?><Error><Code>{code}</Code><Message>{error.message}</Message></Error>"
        )
        return Response(text, error.status, content_type="application/xml; charset=UTF-8")
    if request.args.get("alt") == "media" or target.kind == "download":
        return Response(error.message, error.status, content_type="text/html; charset=UTF-8")
    response = Response(json.dumps(error.body(Style.LEGACY)), error.status)
    response.content_type = "application/json; charset=UTF-8"
    return response
