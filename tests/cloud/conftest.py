"""A world of its own for each test, with a clock that only moves when told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from werkzeug.serving import make_server

from local.children import Children
from local.cloud import start_storage
from local.rest.app import create_app
from local.rest.iam import Accounts
from local.rest.machines import NoMachines
from local.rest.storage import Buckets
from local.rest.world import World
from local.tools_found import fake_gcs_server
from tests.conftest import SHARED

# Recordings are extra checks: without them there is nothing to collect.
collect_ignore_glob = [] if (SHARED / "golden").is_dir() else ["test_golden_*.py"]

ZONE = "/compute/v1/projects/proj/zones/us-central1-a"
IMAGE = (
    "projects/ubuntu-os-accelerator-images/global/images/"
    "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261110"
)


# Service accounts that are there from the start; a policy or a VM may name no other.
ACCOUNTS = ("session-node", "a")


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


class Api:
    """The app as a client sees it; each call answers (status, body)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = create_app(world).test_client()
        self.token = "fake"

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        response = self.client.open(
            path, method=method, json=body, headers={"Authorization": f"Bearer {self.token}"}
        )
        return response.status_code, response.get_json(silent=True)

    def get(self, path: str) -> tuple[int, Any]:
        return self("GET", path)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return self("POST", path, body)

    def insert(self, **changes: Any) -> tuple[int, Any]:
        """Insert a SPOT VM; `changes` replace top-level fields."""
        return self.post(f"{ZONE}/instances", spot_vm(**changes))

    def fault(self, name: str, **order: Any) -> None:
        status, answer = self.post("/_local/faults", {"fault": name, **order})
        assert status == 200, answer


def spot_vm(**changes: Any) -> dict[str, Any]:
    """An insert body for an 8-GPU SPOT VM that Compute accepts."""
    body: dict[str, Any] = {
        "name": "mayfly-one",
        "machineType": "zones/us-central1-a/machineTypes/a3-highgpu-8g",
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {"sourceImage": IMAGE, "diskSizeGb": "200"},
            }
        ],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "metadata": {"items": [{"key": "enable-guest-attributes", "value": "TRUE"}]},
        "scheduling": {
            "provisioningModel": "SPOT",
            "preemptible": True,
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": 3600},
        },
        "labels": {"mayfly": "session"},
    }
    return body | changes


def message(answer: dict[str, Any]) -> str:
    """The text of an error answer."""
    return str(answer["error"]["message"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    made = World("proj", machines=NoMachines(), clock=clock)
    for name in ACCOUNTS:
        made.of(Accounts).add(f"{name}@proj.iam.gserviceaccount.com", {})
    yield made
    made.close()


@pytest.fixture
def api(world: World) -> Api:
    return Api(world)


@pytest.fixture(scope="package")
def storage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fake-gcs-server for all of this room."""
    folder = tmp_path_factory.mktemp("storage-server")
    children = Children(folder / "logs")
    yield start_storage(children, fake_gcs_server(), folder / "objects")
    children.stop_all()


@pytest.fixture
def stored(world: World, storage_server: str) -> str:
    """This world keeps objects, and begins with none; the address of its storage server."""
    urllib3.request("POST", f"{storage_server}/_internal/delete_all")
    world.of(Buckets).attach(storage_server)
    return storage_server


@pytest.fixture
def served(world: World) -> Iterator[str]:
    """The address of the app behind a real socket."""
    server = make_server("127.0.0.1", 0, create_app(world), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()
