"""One running local cloud: storage, the REST fake, the hub, machines, functions, the scheduler."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import exports, state_bucket
from local.children import Child, Children
from local.rest.app import create_app
from local.rest.deployments import Functions
from local.rest.iam import Accounts, Roles
from local.rest.identity import USER_TOKEN
from local.rest.resourcemanager import Project
from local.rest.scheduler import Scheduler
from local.rest.serviceusage import Services
from local.rest.storage import Buckets
from local.rest.world import World
from local.servers import HOST, Server, self_signed
from local.tools_found import fake_gcs_server, pulumi

PROJECT = "mayfly-demo"
NO_METADATA = (
    f"{HOST}:9"  # the discard port: a client that asks for a metadata server learns at once
)
START_LIMIT_S = 30.0
TRIES = 3


class StartError(Exception):
    """A part of the local cloud did not come up; the message says which, and its last words."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """directory: holds everything that is written. plugins: the provider stand-ins on PATH."""

    directory: Path
    plugins: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


class LocalCloud:
    """Started by the constructor; `stop` ends every part and is safe to call twice."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.directory = options.directory
        self._ends: list[Callable[[], None]] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        engine, storage = pulumi(), fake_gcs_server()
        self.children = Children(self.directory / "logs")
        self._ends.append(self.children.stop_all)
        self.world = World(PROJECT, settings=self.options.settings)
        self._ends.append(self.world.close)
        self.world.of(Services).enforce()
        self.world.of(Project)
        self.world.of(Accounts)
        self.world.of(Roles)
        self.storage_url = self._start_storage(storage)
        self.world.of(Buckets).attach(self.storage_url)
        app = create_app(self.world)
        self.http = self._serve(Server(app))
        self.https = self._serve(Server(app, tls=self_signed(self.directory / "tls")))
        self.world.base_url = self.http.url
        self.hub_url = self._start_hub()
        platform = exports.platform(self.http.url, self.hub_url)
        platform["PULUMI_CONFIG_PASSPHRASE"] = ""
        self.world.of(Functions).attach(self.children, self.directory / "functions", platform)
        self.world.of(Scheduler).start()
        self._start_machines()
        self._write(engine)

    def _serve(self, server: Server) -> Server:
        self._ends.append(server.stop)
        return server

    def _start_storage(self, program: Path) -> str:
        root = self.directory / "storage"
        for _ in range(TRIES):
            port = free_port()
            command = [str(program), "-scheme", "http", "-host", HOST, "-port", str(port)]
            command += ["-backend", "filesystem", "-filesystem-root", str(root)]
            command += ["-public-host", f"{HOST}:{port}", "-log-level", "warn"]
            child = self.children.start("fake-gcs-server", command, env=minimal_environment())
            if wait_for_port(port, child):
                return f"http://{HOST}:{port}"
        raise StartError(f"fake-gcs-server did not start.\n{child.log_tail()}")

    def _start_hub(self) -> str:
        return f"http://{HOST}:9"

    def _start_machines(self) -> None:
        """Instances run nothing yet."""

    def _write(self, engine: Path) -> None:
        scratch = self.directory / "scratch"
        scratch.mkdir()
        state_bucket.create(self.world.of(Buckets), PROJECT, engine, scratch)
        shutil.rmtree(scratch)
        exports.write_wrappers(self.directory, plugins=self.options.plugins)
        exports.write_boto(self.directory, port=self.https.port, project=PROJECT)
        (self.directory / "pulumi").mkdir()

    def describe(self) -> dict[str, Any]:
        """What local.json says."""
        variables = exports.exports(
            self.directory,
            api=self.http.url,
            hub=self.hub_url,
            metadata=NO_METADATA,
            project=PROJECT,
            token=USER_TOKEN,
        )
        urls = {"api": self.http.url, "storage": self.https.url, "hub": self.hub_url}
        return {
            "pid": os.getpid(),
            "exports": variables,
            "urls": urls,
            "project": PROJECT,
            "dir": str(self.directory),
        }

    def stop(self) -> None:
        while self._ends:
            self._ends.pop()()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, child: Child, limit_s: float = START_LIMIT_S) -> bool:
    """Whether somebody listens before the child dies or the limit is over."""
    deadline = time.monotonic() + limit_s
    while child.alive and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        return True
    return False


def minimal_environment() -> dict[str, str]:
    """For children that need nothing of the user's: no credentials, no proxies."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
