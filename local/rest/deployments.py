"""Functions as they are deployed: built and started in the background, kept, replaced, stopped."""

from __future__ import annotations

import copy
import secrets
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local.children import Children
from local.rest import function_build
from local.rest.errors import ApiError
from local.rest.function_build import BuildError
from local.rest.function_runtime import Emulator, FunctionRuntime, StartupError, Surroundings
from local.rest.policies import Policies
from local.rest.storage import Buckets
from local.rest.times import stamp
from local.rest.world import World

TYPE = "type.googleapis.com/google.cloud.functions.v2beta"


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
        self._emulator: Emulator | None = None
        self._deploying = threading.Lock()

    def attach(
        self,
        children: Children,
        directory: Path,
        platform: Mapping[str, str],
        emulator: Emulator | None = None,
    ) -> None:
        """Run functions below `directory`; `platform` is the environment that each is given.

        emulator: opens a storage door of a function's own, for clients that send no token.
        """
        self._emulator = emulator
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

    def operation(self, location: str, target: str, verb: str) -> dict[str, Any]:
        """A long-running operation that has just begun."""
        place = f"projects/{self.world.project}/locations/{location}"
        name = f"{place}/operations/operation-{self.world.new_id()}"
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
            except (BuildError, StartupError, ApiError) as error:
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
        around = Surroundings(self._children, runs, self._platform, self._emulator)
        return FunctionRuntime(self.world, snapshot, around)

    def _build(self, deployed: Deployed, source: Path) -> None:
        wanted, buckets = deployed.given_source, self.world.of(Buckets)
        if self._children is None and not buckets.attached:
            return
        generation = wanted.get("generation", "")
        with tempfile.TemporaryFile() as archive:
            found = buckets.objects.fetch(wanted["bucket"], wanted["object"], generation, archive)
            if self._children is not None:
                archive.seek(0)
                _replace_source(archive, source)
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


def _replace_source(archive: IO[bytes], source: Path) -> None:
    """Unpack beside the old source; it is replaced only by one that can be built."""
    fresh = source.with_name("fresh")
    function_build.unpack(archive, fresh)
    function_build.check(fresh)
    shutil.rmtree(source, ignore_errors=True)
    fresh.rename(source)
