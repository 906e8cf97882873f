"""Where Cloud Run stands: who may call a function, and the call itself."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from local.rest.deployments import Deployed, Functions
from local.rest.errors import ApiError
from local.rest.identity import bearer
from local.rest.policies import Policies
from local.rest.world import World

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
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
        return refused or deployed.runtime.handle(request, path)

    @app.get("/_local/functions")
    def functions() -> ResponseReturnValue:
        with world.lock:
            return jsonify(world.of(Functions).report())


def _refusal(world: World, deployed: Deployed, path: str) -> Response | None:
    """401 for a token that is none, 403 for a caller without roles/run.invoker."""
    config = deployed.resource["serviceConfig"]
    invokers = world.of(Policies).members(config["service"], "roles/run.invoker")
    if "allUsers" in invokers:
        return None
    token = bearer(
        request.headers.get("X-Serverless-Authorization") or request.headers.get("Authorization")
    )
    shown = f"/{path}"
    if not token:
        return Response(FORBIDDEN.format(path=shown), 403, content_type="text/html")
    member = _caller(world, token, config["uri"])
    if member is None:
        refusal = Response(UNAUTHORIZED.format(path=shown), 401, content_type="text/html")
        refusal.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        return refusal
    owners = world.of(Policies).members(f"projects/{world.project}", "roles/run.invoker")
    if member not in invokers | owners and "allAuthenticatedUsers" not in invokers:
        return Response(FORBIDDEN.format(path=shown), 403, content_type="text/html")
    return None


def _caller(world: World, token: str, uri: str) -> str | None:
    """Whose ID token for this service it is; a trailing slash in the audience does not matter."""
    for audience in (uri, uri.rstrip("/")):
        try:
            return world.identity.oidc(token, audience).member
        except ApiError:
            continue
    return None
