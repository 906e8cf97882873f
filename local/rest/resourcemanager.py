"""Cloud Resource Manager: the one project and its policy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from flask import Flask

from local.rest import permissions, policies
from local.rest.errors import ApiError
from local.rest.identity import held_permissions
from local.rest.policies import Policies
from local.rest.service import Call, Service
from local.rest.world import World


def _install(app: Flask, world: World) -> None:
    """From the start the local user owns the project."""
    world.of(Project)


SERVICE = Service({"/crm/": "cloudresourcemanager.v1"}, install=_install)

EXTERNAL_IPS = "constraints/compute.vmExternalIpAccess"
CONSTRAINT = re.compile(r"constraints/[a-z]+\.[a-zA-Z.]+")
ORGANIZATION = "987654321098"


class Project:
    """The project as it is described, and its policy: the local user owns it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.resource = f"projects/{world.project}"
        member = world.identity.user.member
        world.of(Policies).start(self.resource, [{"role": "roles/owner", "members": [member]}])

    def require(self, project: str) -> None:
        """Google answers the same for a project that is not there and one that is not yours."""
        if project not in (self.world.project, self.world.project_number):
            raise ApiError(
                403,
                f"The caller does not have permission on project '{project}' (or it may "
                "not exist).",
            )


@SERVICE.method("cloudresourcemanager.projects.get")
def get(call: Call) -> dict[str, Any]:
    project = call.world.of(Project)
    project.require(call["projectId"])
    return {
        "projectNumber": call.world.project_number,
        "projectId": call.world.project,
        "lifecycleState": "ACTIVE",
        "name": call.world.project.title(),
        "createTime": "2026-01-05T09:00:00.000Z",
        "parent": {"type": "organization", "id": ORGANIZATION},
        "labels": {},
    }


@SERVICE.method("cloudresourcemanager.projects.list")
def list_projects(call: Call) -> dict[str, Any]:
    return {"projects": [get(_of_project(call))]}


@SERVICE.method("cloudresourcemanager.projects.getAncestry")
def ancestry(call: Call) -> dict[str, Any]:
    call.world.of(Project).require(call["projectId"])
    return {
        "ancestor": [
            {"resourceId": {"type": "project", "id": call.world.project}},
            {"resourceId": {"type": "organization", "id": ORGANIZATION}},
        ]
    }


@SERVICE.method("cloudresourcemanager.projects.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    project = call.world.of(Project)
    project.require(call["resource"])
    options = call.body.get("options", {})
    version = policies.requested_version({"v": str(options.get("requestedPolicyVersion", 1))}, "v")
    return call.world.of(Policies).get(project.resource, version)


@SERVICE.method("cloudresourcemanager.projects.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    project = call.world.of(Project)
    project.require(call["resource"])
    return call.world.of(Policies).set(project.resource, call.body.get("policy", {}))


@SERVICE.method("cloudresourcemanager.projects.getEffectiveOrgPolicy")
def effective_policy(call: Call) -> dict[str, Any]:
    """Every list constraint allows all, but for external addresses where a setting forbids them."""
    call.world.of(Project).require(call["projectsId"])
    constraint = call.body.get("constraint", "")
    if not CONSTRAINT.fullmatch(constraint):
        raise ApiError(400, f"Invalid constraint: '{constraint}'.")
    forbidden = constraint == EXTERNAL_IPS and not call.world.settings["external_ips"]
    return {
        "constraint": constraint,
        "listPolicy": {"allValues": "DENY" if forbidden else "ALLOW"},
    }


@SERVICE.method("cloudresourcemanager.projects.testIamPermissions")
def test_permissions(call: Call) -> dict[str, Any]:
    call.world.of(Project).require(call["resource"])
    return held_permissions(call, permissions.PROJECT(call))


def _of_project(call: Call) -> Call:
    return replace(call, params={"projectId": call.world.project})
