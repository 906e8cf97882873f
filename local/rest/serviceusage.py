"""Service Usage: which APIs the project has switched on."""

from __future__ import annotations

import re
from typing import Any

from flask import request

from local.rest.errors import ApiError
from local.rest.service import Call, Service
from local.rest.words import words
from local.rest.world import World

SERVICE = Service({"/serviceusage/": "serviceusage.v1"})

NAME = re.compile(r"[a-z][a-z0-9-]*\.googleapis\.com")
KNOWN = frozenset(
    f"{name}.googleapis.com"
    for name in words(
        "artifactregistry billingbudgets cloudapis cloudbilling cloudbuild cloudfunctions cloudkms "
        "cloudquotas cloudresourcemanager cloudscheduler cloudtrace compute containerregistry "
        "datastore eventarc iam iamcredentials iap logging monitoring networkmanagement orgpolicy "
        "oslogin pubsub recommender run secretmanager servicemanagement serviceusage storage "
        "storage-api storage-component sts telemetry vpcaccess"
    )
)
# What Google switches on in every new project, and what the user did before.
AT_BIRTH = words(
    "cloudapis cloudresourcemanager cloudtrace datastore logging monitoring servicemanagement "
    "serviceusage storage storage-api storage-component"
)
PAID = frozenset(
    f"{name}.googleapis.com"
    for name in words("artifactregistry cloudbuild cloudfunctions compute run secretmanager")
)
BATCH_LIMIT = 20
TYPE = "type.googleapis.com/google.api.serviceusage.v1"


class Services:
    """Enabled services by name, and the operations that enabled them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.on = {f"{name}.googleapis.com" for name in AT_BIRTH}
        self.operations: dict[str, dict[str, Any]] = {}

    def enforce(self) -> None:
        """From now on the project's other APIs answer only when they are on."""
        self.world.enabled = self.enabled

    def enabled(self, api: str) -> bool:
        return api in self.on

    def describe(self, name: str) -> dict[str, Any]:
        parent = f"projects/{self.world.project_number}"
        return {
            "name": f"{parent}/services/{name}",
            "config": {"name": name, "title": name.split(".")[0]},
            "state": "ENABLED" if name in self.on else "DISABLED",
            "parent": parent,
        }

    def operation(self, response: dict[str, Any]) -> dict[str, Any]:
        name = f"operations/acat.p2-{self.world.project_number}-{self.world.new_id()}"
        self.operations[name] = {"name": name, "done": True, "response": response}
        return {"name": name, "metadata": {"@type": f"{TYPE}.OperationMetadata"}}


def _require(call: Call) -> Services:
    owner, project = call["v1Id"], call["v1Id1"]
    known = (call.world.project, call.world.project_number)
    if owner != "projects" or project not in known:
        raise ApiError(
            403,
            f"Permission denied to access service usage of {owner}/{project} (or it may "
            "not exist).",
        )
    return call.world.of(Services)


def _check(names: list[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name) or name not in KNOWN:
            raise ApiError(
                404,
                f"Not found or permission denied for service(s): {name}.",
                details=[
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED",
                        "domain": "serviceusage.googleapis.com",
                        "metadata": {"services": name},
                    }
                ],
            )


def _require_billing(call: Call, names: list[str]) -> None:
    """Compute and the like can be switched on only where somebody pays."""
    paid = sorted(set(names) & PAID)
    if paid and not call.world.settings["billing"]:
        raise ApiError(
            400,
            f"Billing account for project '{call.world.project_number}' is not found. Billing "
            f"must be enabled for activation of service(s) '{','.join(paid)}' to proceed.",
            status_text="FAILED_PRECONDITION",
        )


@SERVICE.method("serviceusage.services.list")
def list_services(call: Call) -> dict[str, Any]:
    services = _require(call)
    wanted = call.query.get("filter", "")
    if wanted not in ("", "state:ENABLED", "state:DISABLED"):
        raise ApiError(400, f"Invalid filter: {wanted}")
    names = sorted(KNOWN | services.on)
    if wanted:
        names = [n for n in names if (n in services.on) == wanted.endswith(":ENABLED")]
    return {"services": [services.describe(n) for n in names]}


@SERVICE.method("serviceusage.services.get")
def get(call: Call) -> dict[str, Any]:
    services = _require(call)
    _check([call["servicesId"]])
    return services.describe(call["servicesId"])


@SERVICE.method("serviceusage.services.batchGet")
def batch_get(call: Call) -> dict[str, Any]:
    services = _require(call)
    names = [n.rsplit("/", 1)[-1] for n in request.args.getlist("names")]
    _check(names)
    return {"services": [services.describe(n) for n in names]}


@SERVICE.method("serviceusage.services.enable")
def enable(call: Call) -> dict[str, Any]:
    services = _require(call)
    name = call["servicesId"]
    _check([name])
    _require_billing(call, [name])
    services.on.add(name)
    answer = {"@type": f"{TYPE}.EnableServiceResponse", "service": services.describe(name)}
    return services.operation(answer)


@SERVICE.method("serviceusage.services.batchEnable")
def batch_enable(call: Call) -> dict[str, Any]:
    services = _require(call)
    names = call.body.get("serviceIds", [])
    if not 1 <= len(names) <= BATCH_LIMIT:
        raise ApiError(400, f"A batch must hold between 1 and {BATCH_LIMIT} services.")
    _check(names)
    _require_billing(call, names)
    services.on.update(names)
    answer = {
        "@type": f"{TYPE}.BatchEnableServicesResponse",
        "services": [services.describe(n) for n in names],
    }
    return services.operation(answer)


@SERVICE.method("serviceusage.services.disable")
def disable(call: Call) -> dict[str, Any]:
    services = _require(call)
    name = call["servicesId"]
    _check([name])
    if name not in services.on:
        text = f"The service {name} is not enabled for the consumer and cannot be disabled."
        raise ApiError(400, text, status_text="FAILED_PRECONDITION")
    services.on.discard(name)
    answer = {"@type": f"{TYPE}.DisableServiceResponse", "service": services.describe(name)}
    return services.operation(answer)


@SERVICE.method("serviceusage.operations.get")
def operation(call: Call) -> dict[str, Any]:
    found = call.world.of(Services).operations.get(f"operations/{call['operationsId']}")
    if found is None:
        raise ApiError(404, f"Operation operations/{call['operationsId']} not found.")
    return found
