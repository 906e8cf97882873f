"""One running local cloud: storage, the REST fake, the hub, machines, functions, the scheduler."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask

from local import exports, state_bucket
from local.children import Children, free_port, minimal_environment, wait_for_port
from local.google_door import GoogleDoor
from local.hub_process import HubProcess
from local.machine import Image, Machines
from local.machine.openssh import OpenSsh
from local.rest.app import create_app
from local.rest.deployments import Functions
from local.rest.identity import USER_TOKEN, Principal
from local.rest.scheduler import Scheduler
from local.rest.serviceusage import Services
from local.rest.storage import Buckets
from local.rest.world import World
from local.servers import HOST, Door, Server, self_signed
from local.tools_found import cache_dir, fake_gcs_server, gsutil, openssh_root, pulumi

PROJECT = "mayfly-demo"
# The discard port: whoever asks there learns at once that nobody answers.
NO_METADATA = f"{HOST}:9"
NOWHERE = f"http://{HOST}:9"
START_LIMIT_S = 30.0
TRIES = 3


class StartError(Exception):
    """A part of the local cloud did not come up; the message says which, and its last words."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """directory: holds everything that is written. plugins: the provider stand-ins on PATH.

    hub_token: the one that the hub knows; "" none.
    """

    directory: Path
    plugins: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    hub_token: str = ""


def function_scratch(directory: Path, ends: ExitStack) -> Path:
    """Where functions keep temporary files: in `directory`, unless a Pulumi project lies above it.

    Nothing lies above a real function's /tmp. An engine that finds a project there takes its
    configuration, and writes into it: then the folder is elsewhere, and `ends` removes it.
    """
    if any((folder / "Pulumi.yaml").exists() for folder in directory.resolve().parents):
        made = tempfile.TemporaryDirectory(prefix="mayfly-local-", ignore_cleanup_errors=True)
        return Path(ends.enter_context(made))
    inside = directory / "function-tmp"
    inside.mkdir(parents=True, exist_ok=True)
    return inside


class LocalCloud:
    """Started by the constructor; `stop` ends every part and is safe to call twice.

    What one part says against its end comes out of `stop` when all the others are gone.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.directory = options.directory
        self._ends = ExitStack()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        engine, storage = pulumi(), fake_gcs_server()
        check_host()
        self._scratch = function_scratch(self.directory, self._ends)
        self.children = Children(self.directory / "logs")
        self._ends.callback(self.children.stop_all)
        self.world = World(PROJECT, settings=self.options.settings)
        self._ends.callback(self.world.close)
        self.hub = self._start_hub()
        objects = self.directory / "storage"
        self.world.of(Buckets).attach(start_storage(self.children, storage, objects))
        self.http, self.https = Door("http"), Door("https")
        user = self.world.identity.user
        self.desk, self.desk_https = Door("http", user), Door("https", user)
        self.world.base_url = self.http.url
        self.platform = exports.platform(self.http.url, self.hub.url if self.hub else NOWHERE)
        self.google = GoogleDoor(self.http.url, self.directory / "google")
        self._ends.callback(self.google.stop)
        self._start_machines()
        self._start_services()
        self._write(engine)
        if self.hub:
            self.hub.wait()

    def _start_services(self) -> None:
        """The app, its doors, and what works by itself."""
        self.world.of(Services).enforce()
        app = create_app(self.world)
        tls = self_signed(self.directory / "tls")
        for door in (self.http, self.https, self.desk, self.desk_https):
            server = Server(app, door, tls if door.url.startswith("https") else None)
            self._ends.callback(server.stop)
        environment = self.platform | self.google.environment
        environment |= {
            "PULUMI_CONFIG_PASSPHRASE": "",
            "TMPDIR": str(self._scratch),
        }
        self.world.of(Functions).attach(
            self.children,
            self.directory / "functions",
            environment,
            lambda owner: _emulator(app, owner),
        )
        self.world.of(Scheduler).start()

    def _start_machines(self) -> None:
        if not self.world.settings["machines"]:
            return
        hub = {"HF_ENDPOINT": self.platform["HF_ENDPOINT"]}
        ssh_root = openssh_root()
        image = Image(
            project_id=PROJECT,
            project_number=self.world.project_number,
            ports=[self.http.port, self.https.port],
            internet_ports=[self.hub.port] if self.hub else [],
            environment={k: v for k, v in self.platform.items() if k not in hub},
            internet_environment=hub,
            storage_port=self.https.port,
            gsutil=gsutil(),
            ssh=OpenSsh(ssh_root) if ssh_root else None,
        )
        machines = Machines(self.directory / "machines", image, self.world.settings)
        self.world.use_machines(machines)
        self._ends.callback(machines.close)

    def _start_hub(self) -> HubProcess | None:
        megabytes = int(self.world.settings["hub_mb"])
        if not megabytes:
            return None
        return HubProcess(self.children, self.directory / "hub", megabytes, self.options.hub_token)

    def _write(self, engine: Path) -> None:
        releases = self.directory / "releases"
        releases.mkdir()
        published = state_bucket.publish(engine, releases)
        if not self.world.settings["fresh"]:
            state_bucket.create(self.world.of(Buckets), PROJECT, published)
        exports.write_wrappers(
            self.directory,
            plugins=self.options.plugins,
            defaults=exports.endpoints(self.http.url),
        )
        exports.write_engine(self.directory, engine, self.google.environment)
        exports.write_boto(self.directory, port=self.desk_https.port, project=PROJECT)
        (self.directory / "pulumi").mkdir()

    def describe(self) -> dict[str, Any]:
        """What local.json says."""
        variables = exports.exports(
            self.directory,
            api=self.http.url,
            hub=self.platform["HF_ENDPOINT"],
            metadata=NO_METADATA,
            project=PROJECT,
            emulator=self.desk.url,
            token=USER_TOKEN,
        )
        if not self.options.plugins:
            # The real provider asks Google who the user is, whatever endpoints it is given.
            variables |= {"HTTPS_PROXY": NOWHERE, "NO_PROXY": f"{HOST},localhost"}
            # The real plugins lie in the user's own Pulumi home.
            del variables["PULUMI_HOME"]
        urls = {
            "api": self.http.url,
            "storage": self.desk_https.url,
            "hub": self.platform["HF_ENDPOINT"],
        }
        return {
            "pid": os.getpid(),
            "exports": variables,
            "urls": urls,
            "project": PROJECT,
            "dir": str(self.directory),
        }

    def stop(self) -> None:
        self._ends.close()


def _emulator(app: Flask, owner: Principal) -> tuple[str, Callable[[], None]]:
    door = Door("http", owner)
    return door.url.partition("://")[2], Server(app, door).stop


def check_host() -> None:
    """MachineError with the remedy where machines cannot run; asked once after each boot."""
    asked = cache_dir() / "machines" / "boot-id"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    if not asked.exists() or asked.read_text() != boot:
        Machines.preflight()
        asked.parent.mkdir(parents=True, exist_ok=True)
        asked.write_text(boot)  # two clouds that start at once write the same


def start_storage(children: Children, program: Path, root: Path) -> str:
    """Start a fake-gcs-server whose objects lie in `root`; its address, once it answers."""
    for _ in range(TRIES):
        port = free_port()
        command = [str(program), "-scheme", "http", "-host", HOST, "-port", str(port)]
        command += ["-backend", "filesystem", "-filesystem-root", str(root)]
        command += ["-public-host", f"{HOST}:{port}", "-log-level", "warn"]
        child = children.start("fake-gcs-server", command, env=minimal_environment())
        if wait_for_port(port, child, START_LIMIT_S):
            return f"http://{HOST}:{port}"
    raise StartError(f"fake-gcs-server did not start.\n{child.log_tail()}")
