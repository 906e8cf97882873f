"""`mayfly up` on the local cloud: from an empty project through stockouts into another region."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import LocalCloud, Options
from mayfly import names, vms
from mayfly.cloud import connect
from mayfly.demo.evidence import Witness
from mayfly.demo.workshop import SESSION, make_project
from tests.provider.engine import find_engine
from tests.waiting import wait_until

LIMIT_S = 420
# A reaper that looks every five minutes of 1000 s each: nobody but the test ends anything here.
SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": 0.001}
MACHINE = ("--machine", "a2-ultragpu-8g", "--hours", "1", "--yes")
pytestmark = pytest.mark.timeout(900)


class Desk:
    """A user's folder and shell, and the local cloud that they lead to."""

    def __init__(self, local: LocalCloud, project: Path) -> None:
        self.world = local.world
        described = local.describe()
        variables = described["exports"]
        path = os.pathsep.join([str(find_engine().parent), os.environ["PATH"]])
        os.environ.update(variables | {"PATH": variables["PATH"].replace("$PATH", path)})
        self.cloud = connect(described["project"])
        self.witness = Witness(self.cloud, names.bucket(self.cloud.project, "state"))
        self.project = project
        make_project(project, self.cloud.project)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "mayfly.cli", "up", "--session", SESSION, *MACHINE, *words],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def up(self, *words: str) -> tuple[int, str, str]:
        child = self.start(*words)
        out, err = child.communicate(timeout=LIMIT_S)
        return child.returncode, out, err

    def down(self) -> None:
        command = [sys.executable, "-m", "mayfly.cli", "down", SESSION, "--yes"]
        subprocess.run(command, cwd=self.project, check=True, timeout=LIMIT_S, capture_output=True)
        assert self.vms() == []
        self.world.faults.clear()

    def vms(self) -> list[vms.Vm]:
        return vms.sessions(self.cloud)

    def fault(self, name: str, zone: str, **more: Any) -> None:
        self.world.faults.order({"fault": name, "where": {"zone": zone}, **more})


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """One local cloud for all; its path is short, because a socket's name has 107 bytes."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mf-") as name:
        folder = Path(name)
        (folder / "project").mkdir()
        local = LocalCloud(Options(directory=folder / "cloud", settings=dict(SETTINGS)))
        try:
            yield Desk(local, folder / "project")
        finally:
            local.stop()
            os.environ.clear()
            os.environ.update(before)


def test_up_lands_in_another_region_when_its_own_has_no_room(desk):
    """The whole way: foundation, a subnet abroad, weights, two stockouts, a VM, an endpoint."""
    desk.fault(
        "stockout-with-details",
        "us-central1-a",
        times=0,
        **{"with": {"zonesAvailable": "us-central1-c"}},
    )
    desk.fault("stockout-plain", "us-central1-c", times=0)

    status, out, err = desk.up("--region", "us-central1,us-east4", "--json")

    assert status == 0, err[-4000:]
    told = json.loads(out)
    assert [(a["zone"], a["outcome"]) for a in told["attempts"]] == [
        ("us-central1-a", "no capacity in the zone; Google names us-central1-c"),
        ("us-central1-c", "no capacity in the zone"),
        ("us-east4-c", "it serves"),
    ]
    assert told["attempts"][2]["egress_usd"] == pytest.approx(11.9, abs=0.1)
    vm = desk.vms()[0]
    assert (vm.zone, vm.id) == ("us-east4-c", told["outputs"]["vm_id"])
    assert vm.settings["hourly_usd"] == 18.45
    assert vm.settings["max_life_s"] == 3600

    again, _, said = desk.up()

    assert again == 0, said[-4000:]
    assert [v.id for v in desk.vms()] == [vm.id]
    desk.down()
