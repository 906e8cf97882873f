"""Machines for tests: each test's own, gone when it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.machine import Image, Machines
from tests.conftest import SHARED
from tests.machine import outcome

# Compared with what was recorded of the real server, where the recording is at hand.
collect_ignore = [] if SHARED.is_dir() else ["test_vllm_golden.py"]

PROJECT = "example-project"
NUMBER = "123456789012"


def instance(script: str = "", **changes: Any) -> dict[str, Any]:
    """A stored instance resource, small but in the API's shape."""
    items = [{"key": "enable-guest-attributes", "value": "TRUE"}]
    if script:
        items.append({"key": "startup-script", "value": script})
    base = {
        "id": "4611686018427387904",
        "name": "mayfly-test",
        "zone": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/us-central1-a",
        "machineType": "zones/us-central1-a/machineTypes/a3-highgpu-8g",
        "metadata": {"items": items},
        "networkInterfaces": [{"network": "global/networks/mayfly", "networkIP": "10.10.0.2"}],
        "serviceAccounts": [
            {
                "email": f"node@{PROJECT}.iam.gserviceaccount.com",
                "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
            }
        ],
    }
    return {**base, **changes}


EXTERNAL = [
    {
        "network": "global/networks/mayfly",
        "networkIP": "10.10.0.3",
        "accessConfigs": [{"natIP": "203.0.113.9", "type": "ONE_TO_ONE_NAT"}],
    }
]


class Booted:
    """One booted machine with what its callbacks were told."""

    def __init__(self, machines: Machines, identifier: str) -> None:
        self.machines, self.id = machines, identifier
        self.told: list[tuple[str, str, str | None]] = []
        self.off: list[str] = []
        machines.guest_attributes = lambda *call: self.told.append(call)
        machines.powered_off = self.off.append
        machines.token = lambda email: f"token-of-{email}"
        machines.identity = lambda email, audience: f"oidc-{email}-{audience}"

    def console(self, text: str, limit_s: float = 60) -> str:
        return self.machines.wait_for_serial(self.id, text, limit_s)

    def outcomes(self, commands: list[str], limit_s: float = 60) -> list[outcome.Outcome]:
        """What a machine booted with `outcome.script(commands)` has said."""
        console = self.console("Finished running startup scripts", limit_s)
        return outcome.read(console, len(commands))


@pytest.fixture
def run(boot: Callable[..., Booted]) -> Callable[..., list[outcome.Outcome]]:
    """run(commands, **as for boot) -> an Outcome for each."""

    def start(commands: list[str], **options: Any) -> list[outcome.Outcome]:
        return boot(outcome.script(commands), **options).outcomes(commands)

    return start


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[..., Booted]]:
    """boot(script, image=..., settings=..., **instance fields) -> Booted."""
    made: list[Machines] = []

    def start(
        script: str = "",
        *,
        image: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Booted:
        whole = Image(project_id=PROJECT, project_number=NUMBER, **(image or {}))
        machines = Machines(tmp_path / f"machines{len(made)}", whole, settings or {})
        made.append(machines)
        resource = instance(script, **fields)
        booted = Booted(machines, resource["id"])
        machines.boot(resource)
        return booted

    yield start
    for machines in made:
        machines.close()
