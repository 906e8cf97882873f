"""Where Cloud Run stands: who may call a function, and the call itself."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from local.rest.access import Resource, decide
from local.rest.deployments import Deployed, Functions
from local.rest.errors import ApiError
from local.rest.identity import Principal, bearer
from local.rest.world import World

INVOKE = "run.routes.invoke"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CRASHED = "Internal Server Error"
FORBIDDEN = (
    "<html><head><title>403 Forbidden</title></head><body><h1>Error: Forbidden</h1>"
    "<h2>Your client does not have permission to get URL <code>{path}</code> from this "
    "server.</h2></body></html>"
)
UNAUTHORIZED = (
    "<html><head><title>401 Unauthorized</title></head><body><h1>Error: Unauthorized</h1>"
    "<h2>Your client does not have permission to the requested URL "
    "<code>{path}</code>.</h2></body></html>"
)


def install_invoke(app: Flask, world: World) -> None:
    @app.route("/_run/<name>/", defaults={"path": ""}, methods=METHODS)
    @app.route("/_run/<name>/<path:path>", methods=METHODS)
    def invoke(name: str, path: str) -> ResponseReturnValue:
        deployed = world.of(Functions).by_short_name(name)
        if deployed is None or deployed.runtime is None:
            return Response("<html><body><h1>Error: Page not found</h1></body></html>", 404)
        refused = _refusal(world, deployed, path)
        if refused is None and world.faults.take(INVOKE, {"service": name}, None):  # any fault
            return Response(CRASHED, 500, content_type="text/plain")
        return refused or deployed.runtime.handle(request, path)

    @app.get("/_local/functions")
    def functions() -> ResponseReturnValue:
        with world.lock:
            return jsonify(world.of(Functions).report())


def _refusal(world: World, deployed: Deployed, path: str) -> Response | None:
    """401 for a token that is none, 403 for a caller without run.routes.invoke."""
    config = deployed.resource["serviceConfig"]
    service = Resource(config["service"], "run.googleapis.com/Service", config["service"])
    shown = f"/{path}"
    token = bearer(
        request.headers.get("X-Serverless-Authorization") or request.headers.get("Authorization")
    )
    caller = _caller(world, token, config["uri"]) if token else None
    with world.lock:
        if decide(world, caller, INVOKE, service).held:
            return None
    if not token or caller:
        return Response(FORBIDDEN.format(path=shown), 403, content_type="text/html")
    refusal = Response(UNAUTHORIZED.format(path=shown), 401, content_type="text/html")
    refusal.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    return refusal


def _caller(world: World, token: str, uri: str) -> Principal | None:
    """Whose ID token for this service it is; a trailing slash in the audience does not matter."""
    for audience in (uri, uri.rstrip("/")):
        try:
            return world.identity.oidc(token, audience)
        except ApiError:
            continue
    return None
