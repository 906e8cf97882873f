"""`mayfly up` on the local cloud: from an empty project through stockouts into another region."""

import json
import os
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
from mayfly.demo.workshop import make_project
from tests.provider.engine import find_engine
from tests.running import running

LIMIT_S = 600
SESSION = "away"  # a stack that has no file yet
# A reaper that looks every five minutes of 1000 s each: nobody but the test ends anything here.
SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": 0.001}
MACHINE = ("--machine", "a2-ultragpu-8g", "--hours", "1", "--yes")
ADVICE = "us-central1-a=0.9,us-central1-c=0.6,us-east4-c=0.3"
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

    def up(self, *words: str) -> tuple[int, str, str]:
        with running(
            [sys.executable, "-m", "mayfly.cli", "up", "--session", SESSION, *MACHINE, *words],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
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
        self.world.faults.order(
            {"fault": name, "where": {"zone": zone, "name": names.vm(SESSION)}, **more}
        )


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
    """The whole way from an empty project: foundation, a subnet abroad, weights, a stockout as
    Google tells it in an operation, one by HTTP 503, an answer that is lost while its VM is made,
    and one VM that serves."""
    room = {"with": {"zonesAvailable": "us-central1-c"}}
    desk.fault("stockout-with-details", "us-central1-a", times=0, **room)
    desk.fault("stockout-http-503", "us-central1-c", times=0)
    desk.fault("dropped-after", "us-east4-c")

    desk.world.change_settings({"obtainability": ADVICE})

    status, out, err = desk.up("--region", "us-central1,us-east4", "--json")

    assert status == 0, err[-4000:]
    told = json.loads(out)
    assert [(a["zone"], a["outcome"]) for a in told["attempts"]] == [
        ("us-central1-a", "no capacity in the zone; Google names us-central1-c"),
        ("us-central1-c", "no capacity in the zone"),
        ("us-east4-c", "the connection broke: a VM may exist"),
        ("us-east4-c", "it serves"),
    ]
    assert "mayfly-away in us-east4-c is outside the state; it is taken in" in err
    assert "it is taken away" not in err, "the VM that was made is the VM that serves"
    there = f"us-east4-c/instances/{names.vm(SESSION)}"
    listed = desk.cloud.compute.operations("")
    made = [op for op in listed if op["operationType"] == "insert"]
    assert len([op for op in made if op["targetLink"].endswith(there)]) == 1
    assert told["attempts"][3]["egress_usd"] == pytest.approx(11.9, abs=0.1)
    vm = desk.vms()[0]
    assert (vm.zone, vm.id) == ("us-east4-c", told["outputs"]["vm_id"])
    assert vm.settings["hourly_usd"] == told["attempts"][3]["usd_per_hour"]
    assert vm.settings["rate_source"].startswith("Google's price history in project")
    assert vm.settings["max_life_s"] == 3600
    assert len(desk.vms()) == 1

    again, _, said = desk.up()

    assert again == 0, said[-4000:]
    assert "is in us-east4-c already" in said
    assert [v.id for v in desk.vms()] == [vm.id]
    desk.down()
