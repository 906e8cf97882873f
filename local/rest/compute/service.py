"""The compute service object, and the checks that every one of its methods shares."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask

from local.rest.compute.catalogue import REGIONS, ZONES
from local.rest.compute.images_data import PUBLIC_PROJECTS
from local.rest.errors import ApiError, Style
from local.rest.service import Call, Handler, Service
from local.rest.world import World


def _install(app: Flask, world: World) -> None:
    # Later: control needs every handler module, and those need `method` of this one.
    from local.rest.compute.control import install

    install(app, world)


service = Service(
    {"/compute/beta/": "compute.beta", "/compute/v1/": "compute.v1"},
    style=Style.LEGACY,
    api="compute.googleapis.com",
    title="Compute Engine API",
    install=_install,
)


def method(*names: str, locked: bool = True) -> Callable[[Handler], Handler]:
    """Register a handler for `compute.<name>`; project, zone and region exist when it runs."""

    def register(handler: Handler) -> Handler:
        @wraps(handler)
        def checked(call: Call) -> Any:
            _check_place(call)
            return handler(call)

        return service.method(*(f"compute.{n}" for n in names), locked=locked)(checked)

    return register


def _check_place(call: Call) -> None:
    project = call.params.get("project", call.world.project)
    own = project in (call.world.project, call.world.project_number)
    public = project in PUBLIC_PROJECTS and call.method_id.startswith("compute.images.")
    if not own and not public:
        raise ApiError(404, f"Failed to find project {project}")
    for name, known in (("zone", ZONES), ("region", REGIONS)):
        value = call.params.get(name)
        if value is not None and value not in known:
            raise ApiError(
                400,
                f"Invalid value for field '{name}': '{value}'. Unknown {name}.",
                reason="invalid",
            )


def place(call: Call) -> str:
    """Where the call happens: "zones/us-central1-a", "regions/us-central1" or "global"."""
    for name in ("zone", "region"):
        if name in call.params:
            return f"{name}s/{call.params[name]}"
    return "global"
