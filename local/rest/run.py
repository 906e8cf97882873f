"""Cloud Run, as far as a function stands on it: the service and who may invoke it."""

from __future__ import annotations

from typing import Any

from local.rest import permissions, policies
from local.rest.deployments import Functions
from local.rest.errors import ApiError
from local.rest.identity import held_permissions
from local.rest.policies import Policies
from local.rest.service import Call, Service, require_project

SERVICE = Service({"/run/": "run.v2"}, api="run.googleapis.com", title="Cloud Run Admin API")


def _name(call: Call) -> str:
    """The service's full name; 404 with Google's words when there is none."""
    require_project(call, call["projectsId"])
    world = call.world
    name = f"projects/{world.project}/locations/{call['locationsId']}/services/{call['servicesId']}"
    if name not in world.of(Functions).services():
        raise ApiError(
            404,
            f"Resource '{call['servicesId']}' of kind 'SERVICE' in region "
            f"'{call['locationsId']}' in project '{world.project}' does not exist.",
        )
    return name


@SERVICE.method("run.projects.locations.services.get")
def get(call: Call) -> dict[str, Any]:
    name = _name(call)
    return call.world.of(Functions).services()[name]


@SERVICE.method("run.projects.locations.services.list")
def list_services(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    start = f"projects/{call.world.project}/locations/{call['locationsId']}/"
    found = call.world.of(Functions).services()
    return {"services": [s for name, s in found.items() if name.startswith(start)]}


@SERVICE.method("run.projects.locations.services.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    return call.world.of(Policies).get(_name(call), policies.requested_version(call.query))


@SERVICE.method("run.projects.locations.services.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    return call.world.of(Policies).set(_name(call), call.body.get("policy", {}))


@SERVICE.method("run.projects.locations.services.testIamPermissions")
def test_permissions(call: Call) -> dict[str, Any]:
    _name(call)
    return held_permissions(call, permissions.RUN(call))
