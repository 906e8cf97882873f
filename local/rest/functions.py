"""Cloud Functions (2nd gen): deployed from a bucket and really running."""

from __future__ import annotations

import copy
import secrets
from typing import Any

from local.rest import policies
from local.rest.deployments import Deployed, Functions
from local.rest.errors import ApiError
from local.rest.function_rules import check_function, check_place
from local.rest.iam import Accounts
from local.rest.invoke import install_invoke
from local.rest.masks import apply_mask, paths
from local.rest.policies import Policies
from local.rest.service import Call, Service, require_project
from local.rest.storage import Buckets
from local.rest.times import stamp
from local.rest.world import World

CHANGEABLE = frozenset(
    ("description", "buildConfig", "serviceConfig", "labels", "kmsKeyName", "eventTrigger")
)
SERVICE_DEFAULTS: dict[str, Any] = {
    "timeoutSeconds": 60,
    "availableMemory": "256M",
    "ingressSettings": "ALLOW_ALL",
    "allTrafficOnLatestRevision": True,
    "maxInstanceCount": 100,
    "maxInstanceRequestConcurrency": 1,
}
READ_ONLY_SERVICE = ("service", "uri", "revision", "gcfUri")
READ_ONLY_BUILD = ("build", "sourceProvenance", "dockerRegistry")


SERVICE = Service(
    {"/functions/": "cloudfunctions.v2beta"},
    api="cloudfunctions.googleapis.com",
    title="Cloud Functions API",
    install=install_invoke,
)


def _full_name(call: Call) -> str:
    require_project(call, call["projectsId"])
    place = f"projects/{call.world.project}/locations/{call['locationsId']}"
    return f"{place}/functions/{call['functionsId']}"


def _get(call: Call) -> Deployed:
    name = _full_name(call)
    deployed = call.world.of(Functions).deployed.get(name)
    if deployed is None:
        raise ApiError(404, f"Resource '{name}' was not found")
    return deployed


@SERVICE.method("cloudfunctions.projects.locations.functions.create")
def create(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    functions = call.world.of(Functions)
    function_id, location = call.query.get("functionId", ""), call["locationsId"]
    check_place(location, function_id)
    name = f"projects/{call.world.project}/locations/{location}/functions/{function_id}"
    if call.body.get("name", name) != name:
        raise ApiError(400, f"The function name {call.body['name']} does not match {name}.")
    resource = copy.deepcopy(call.body) | {"name": name, "environment": "GEN_2"}
    _complete(call, resource)
    check_function(resource)
    if name in functions.deployed:
        raise ApiError(
            409,
            f"Could not create Cloud Functions resource {name}. A function with the same "
            "name already exists.",
        )
    given = _take_source(call, resource)
    now = stamp(call.world.clock())
    resource |= {
        "createTime": now,
        "updateTime": now,
        "satisfiesPzi": True,
        "url": f"https://{location}-{call.world.project}.cloudfunctions.net/{function_id}",
    }
    deployed = Deployed(resource, given)
    functions.deployed[name] = deployed
    call.world.of(Policies).start(name)
    call.world.of(Policies).start(resource["serviceConfig"]["service"])
    operation = functions.operation(call["locationsId"], name, "create")
    answer = copy.deepcopy(operation)
    functions.deploy(deployed, operation, build=True)
    return answer


@SERVICE.method("cloudfunctions.projects.locations.functions.patch")
def patch(call: Call) -> dict[str, Any]:
    functions = call.world.of(Functions)
    deployed = _get(call)
    mask = call.query.get("updateMask")
    fresh = copy.deepcopy(deployed.resource)
    given = copy.deepcopy(call.body)
    changed = {p.split(".")[0] for p in paths(mask)} or set(given) & CHANGEABLE
    apply_mask(fresh, given, mask, CHANGEABLE)
    _complete(call, fresh, deployed.resource)
    check_function(fresh)
    build = "buildConfig" in changed
    if build:
        deployed.given_source = _take_source(call, fresh)
    else:
        fresh["buildConfig"] = deployed.resource["buildConfig"]
    deployed.resource = fresh
    operation = functions.operation(call["locationsId"], fresh["name"], "update")
    answer = copy.deepcopy(operation)
    functions.deploy(deployed, operation, build=build)
    return answer


@SERVICE.method("cloudfunctions.projects.locations.functions.delete", locked=False)
def delete(call: Call) -> dict[str, Any]:
    functions = call.world.of(Functions)
    with call.world.lock:
        name = _get(call).resource["name"]
        operation = functions.operation(call["locationsId"], name, "delete")
        answer = copy.deepcopy(operation)
    functions.forget(name)
    with call.world.lock:
        response = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        operation |= {"done": True, "response": response}
    return answer


@SERVICE.method("cloudfunctions.projects.locations.functions.get")
def get(call: Call) -> dict[str, Any]:
    return _get(call).resource


@SERVICE.method("cloudfunctions.projects.locations.functions.list")
def list_functions(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    location = call["locationsId"]
    start = f"projects/{call.world.project}/locations/" + (
        "" if location == "-" else f"{location}/"
    )
    found = call.world.of(Functions).deployed
    return {"functions": [d.resource for name, d in found.items() if name.startswith(start)]}


@SERVICE.method("cloudfunctions.projects.locations.operations.get")
def operation(call: Call) -> dict[str, Any]:
    require_project(call, call["projectsId"])
    place = f"projects/{call.world.project}/locations/{call['locationsId']}"
    name = f"{place}/operations/{call['operationsId']}"
    found = call.world.of(Functions).operations.get(name)
    if found is None:
        raise ApiError(404, f"Operation {name} was not found")
    return found


@SERVICE.method("cloudfunctions.projects.locations.functions.getIamPolicy")
def get_policy(call: Call) -> dict[str, Any]:
    name = _get(call).resource["name"]
    return call.world.of(Policies).get(name, policies.requested_version(call.query))


@SERVICE.method("cloudfunctions.projects.locations.functions.setIamPolicy")
def set_policy(call: Call) -> dict[str, Any]:
    name = _get(call).resource["name"]
    return call.world.of(Policies).set(name, call.body.get("policy", {}))


def _complete(call: Call, resource: dict[str, Any], held: dict[str, Any] | None = None) -> None:
    """What Google adds to what was asked for; accounts must exist."""
    world, name = call.world, resource["name"].rsplit("/", 1)[1]
    held = held or {}
    build = resource.setdefault("buildConfig", {})
    for field in READ_ONLY_BUILD:
        build.pop(field, None)
        if field in held.get("buildConfig", {}):
            build[field] = held["buildConfig"][field]
    location = resource["name"].split("/")[3]
    build |= {
        "build": build.get("build")
        or f"projects/{world.project_number}/locations/{location}/builds/{secrets.token_hex(16)}",
        "dockerRegistry": "ARTIFACT_REGISTRY",
    }
    build.setdefault(
        "dockerRepository",
        f"projects/{world.project}/locations/{location}/repositories/gcf-artifacts",
    )
    if "onDeployUpdatePolicy" not in build:
        build.setdefault("automaticUpdatePolicy", {})
    service = resource.setdefault("serviceConfig", {})
    for field in READ_ONLY_SERVICE:
        service.pop(field, None)
    if "revision" in held.get("serviceConfig", {}):
        service["revision"] = held["serviceConfig"]["revision"]
    for field, value in SERVICE_DEFAULTS.items():
        service.setdefault(field, value)
    service.setdefault(
        "availableCpu", "1" if service["maxInstanceRequestConcurrency"] > 1 else "0.1666"
    )
    service.setdefault(
        "serviceAccountEmail", f"{world.project_number}-compute@developer.gserviceaccount.com"
    )
    service["environmentVariables"] = service.get("environmentVariables", {}) | {
        "LOG_EXECUTION_ID": "true"
    }
    service |= {
        "service": f"projects/{world.project}/locations/{location}/services/{name}",
        "uri": f"{world.base_url}/_run/{name}/",
    }
    _check_accounts(world, build.get("serviceAccount", ""), service["serviceAccountEmail"])


def _check_accounts(world: World, builder: str, runner: str) -> None:
    for email in (builder.rsplit("/", 1)[-1], runner):
        if email and not world.of(Accounts).exists(email):
            raise ApiError(
                400,
                f"Service account {email} was not found. Please pass a valid service "
                "account or make sure the "
                "default service account exists.",
            )


def _take_source(call: Call, resource: dict[str, Any]) -> dict[str, Any]:
    """The source that was asked for; the resource shows Google's own copy of it instead."""
    world = call.world
    held = resource["buildConfig"]["source"]["storageSource"]
    given = {k: held[k] for k in ("bucket", "object", "generation") if held.get(k)}
    location, name = resource["name"].split("/")[3], resource["name"].rsplit("/", 1)[1]
    known = world.of(Functions).deployed.get(resource["name"])
    copied = known.resource["buildConfig"]["source"]["storageSource"] if known else {}
    if given.get("generation") == copied.get("generation"):
        given.pop("generation", None)  # a client that sends back the copy's means the live object
    buckets = world.of(Buckets)
    buckets.require(given["bucket"])
    held.clear()
    held |= {
        "bucket": f"gcf-v2-sources-{world.project_number}-{location}",
        "object": f"{name}/function-source.zip",
        "generation": str(int(world.clock() * 1e6)),
    }
    return given
