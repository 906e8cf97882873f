"""Cloud Functions (2nd gen): deployed from a bucket and really running."""

from __future__ import annotations

import copy
import secrets
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from local.children import Children
from local.rest import function_build, policies
from local.rest.errors import ApiError
from local.rest.function_build import BuildError
from local.rest.function_rules import check_function, check_place
from local.rest.function_runtime import FunctionRuntime, RuntimeFailure
from local.rest.iam import Accounts
from local.rest.masks import apply_mask, paths
from local.rest.policies import Policies
from local.rest.service import Call, Service, require_project
from local.rest.storage import Buckets
from local.rest.times import stamp
from local.rest.world import World

TYPE = "type.googleapis.com/google.cloud.functions.v2beta"
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


@dataclass
class Deployed:
    """One function: its resource, how often it was deployed, and what runs."""

    resource: dict[str, Any]
    given_source: dict[str, Any]
    revision: int = 0
    runtime: FunctionRuntime | None = None


class Functions:
    """All functions by full name. Without `attach` they are kept and run nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deployed: dict[str, Deployed] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self._children: Children | None = None
        self._directory = Path()
        self._platform: dict[str, str] = {}
        self._deploying = threading.Lock()

    def attach(self, children: Children, directory: Path, platform: Mapping[str, str]) -> None:
        """Run functions as `children`, unpacked below `directory`, with `platform` as environment."""
        self._children, self._directory, self._platform = children, directory, dict(platform)
        directory.mkdir(parents=True, exist_ok=True)

    # -- what others ask

    def by_short_name(self, name: str) -> Deployed | None:
        found = (d for full, d in self.deployed.items() if full.rsplit("/", 1)[1] == name)
        return next(found, None)

    def services(self) -> dict[str, dict[str, Any]]:
        """The Cloud Run services below the functions, by full name."""
        found = {}
        for deployed in self.deployed.values():
            config = deployed.resource["serviceConfig"]
            if deployed.revision:
                found[config["service"]] = {
                    "name": config["service"],
                    "uri": config["uri"],
                    "createTime": deployed.resource["createTime"],
                    "updateTime": deployed.resource["updateTime"],
                    "latestReadyRevision": f"{config['service']}/revisions/{config['revision']}",
                }
        return found

    def report(self) -> list[dict[str, Any]]:
        """What /_local/functions shows."""
        return [
            {
                "name": name,
                "uri": d.resource["serviceConfig"].get("uri", ""),
                "state": d.resource["state"],
                "pid": d.runtime.child.pid if d.runtime else 0,
                "log": str(d.runtime.child.log) if d.runtime else "",
            }
            for name, d in self.deployed.items()
        ]

    # -- operations

    def operation(self, call: Call, target: str, verb: str) -> dict[str, Any]:
        name = f"projects/{self.world.project}/locations/{call['locationsId']}/operations/operation-{self.world.new_id()}"
        self.operations[name] = {
            "name": name,
            "metadata": {
                "@type": f"{TYPE}.OperationMetadata",
                "createTime": stamp(self.world.clock()),
                "target": target,
                "verb": verb,
                "apiVersion": "v2beta",
            },
        }
        return self.operations[name]

    def deploy(self, deployed: Deployed, operation: dict[str, Any], *, build: bool) -> None:
        """Build and start in the background; the operation tells how it went."""
        deployed.resource["state"] = "DEPLOYING"
        work = threading.Thread(
            target=self._deploy, args=(deployed, operation, build), daemon=True, name="deploy"
        )
        work.start()

    def _deploy(self, deployed: Deployed, operation: dict[str, Any], build: bool) -> None:
        with self._deploying:
            try:
                runtime = self._roll_out(deployed, build)
            except (BuildError, RuntimeFailure, ApiError) as error:
                code = 3 if isinstance(error, BuildError) else 13
                self._fail(deployed, operation, code, str(error))
                return
            except Exception as error:
                self._fail(deployed, operation, 13, f"Internal error: {error!r}")
                raise
        with self.world.lock:
            old, deployed.runtime = deployed.runtime, runtime
            deployed.resource |= {"state": "ACTIVE", "updateTime": stamp(self.world.clock())}
            deployed.resource.pop("stateMessages", None)
            answer = {"@type": f"{TYPE}.Function"} | copy.deepcopy(deployed.resource)
            operation |= {"done": True, "response": answer}
            gone = self.deployed.get(deployed.resource["name"]) is not deployed
        for unwanted in (old, runtime if gone else None):
            if unwanted:
                unwanted.stop()

    def _fail(self, deployed: Deployed, operation: dict[str, Any], code: int, text: str) -> None:
        with self.world.lock:
            deployed.resource["state"] = "ACTIVE" if deployed.runtime else "FAILED"
            operation |= {"done": True, "error": {"code": code, "message": text}}

    def _roll_out(self, deployed: Deployed, build: bool) -> FunctionRuntime | None:
        resource = deployed.resource
        name = resource["name"].rsplit("/", 1)[1]
        source = self._directory / name / "source"
        if build:
            self._build(deployed, source)
        with self.world.lock:
            deployed.revision += 1
            suffix = "".join(secrets.choice("abcdefghijkmnopqrstuvwxyz") for _ in range(3))
            resource["serviceConfig"]["revision"] = f"{name}-{deployed.revision:05d}-{suffix}"
            snapshot = copy.deepcopy(resource)
        if self._children is None:
            return None
        runs = self._directory / name / f"revision-{deployed.revision}" / "source"
        shutil.rmtree(runs.parent, ignore_errors=True)
        shutil.copytree(source, runs)
        return FunctionRuntime(self.world, self._children, snapshot, runs, self._platform)

    def _build(self, deployed: Deployed, source: Path) -> None:
        wanted = deployed.given_source
        buckets = self.world.of(Buckets)
        with tempfile.TemporaryFile() as archive:
            try:
                found = buckets.objects.fetch(
                    wanted["bucket"], wanted["object"], wanted.get("generation", ""), archive
                )
            except ApiError as error:
                if self._children is None and error.status == 501:
                    return
                raise
            archive.seek(0)
            fresh = source.with_name("fresh")
            function_build.unpack(archive, fresh)
        function_build.check(fresh, deployed.resource["buildConfig"]["entryPoint"])
        shutil.rmtree(source, ignore_errors=True)
        fresh.rename(source)
        resolved = {k: wanted[k] for k in ("bucket", "object")}
        resolved["generation"] = str(found["generation"])
        with self.world.lock:
            deployed.resource["buildConfig"]["sourceProvenance"] = {
                "resolvedStorageSource": resolved
            }

    def forget(self, name: str) -> None:
        """Stop what runs and drop the function, its service and its policies."""
        deployed = self.deployed.pop(name)
        service = deployed.resource["serviceConfig"].get("service")
        held = self.world.of(Policies)
        held.drop(name)
        if service:
            held.drop(service)
        if deployed.runtime:
            runtime, deployed.runtime = deployed.runtime, None
            runtime.stop()
        if self._children is not None:
            shutil.rmtree(self._directory / name.rsplit("/", 1)[1], ignore_errors=True)


def _install(app: Flask, world: World) -> None:
    from local.rest.invoke import install_invoke

    install_invoke(app, world)


SERVICE = Service(
    {"/functions/": "cloudfunctions.v2beta"},
    api="cloudfunctions.googleapis.com",
    title="Cloud Functions API",
    install=_install,
)


def _full_name(call: Call) -> str:
    require_project(call, call["projectsId"])
    return f"projects/{call.world.project}/locations/{call['locationsId']}/functions/{call['functionsId']}"


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
            f"Could not create Cloud Functions resource {name}. A function with the same name already exists.",
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
    operation = functions.operation(call, name, "create")
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
    operation = functions.operation(call, fresh["name"], "update")
    answer = copy.deepcopy(operation)
    functions.deploy(deployed, operation, build=build)
    return answer


@SERVICE.method("cloudfunctions.projects.locations.functions.delete", locked=False)
def delete(call: Call) -> dict[str, Any]:
    functions = call.world.of(Functions)
    with call.world.lock:
        name = _get(call).resource["name"]
        operation = functions.operation(call, name, "delete")
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
    name = f"projects/{call.world.project}/locations/{call['locationsId']}/operations/{call['operationsId']}"
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
                f"Service account {email} was not found. Please pass a valid service account or make sure the "
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
        "generation": world.new_id()[-16:],
    }
    return given
