"""`mayfly up` on the local cloud: from an empty project through stockouts into another region, from
there into another life when Google takes the VM, and Ctrl-C in the middle of a third."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from local.cloud import LocalCloud, Options
from local.rest import pattern
from local.rest.compute.capacity import Capacity
from mayfly import ledger, names, timeline, vms
from mayfly.cloud import connect
from mayfly.demo.evidence import Witness
from mayfly.demo.workshop import make_project
from tests.provider.engine import find_engine
from tests.running import running
from tests.waiting import wait_until

LIMIT_S = 600
MAYFLY = (sys.executable, "-m", "mayfly.cli")
SESSION = "away"  # a stack that has no file yet
# A reaper that looks every five minutes of 1000 s each: nobody but the test ends anything here.
SETTINGS = {"hub_mb": 16, "vllm_load_s": 0, "scheduler_speedup": 0.001}
MACHINE = ("--machine", "a2-ultragpu-8g", "--hours", "1", "--yes")
WHERE = ("--region", "us-central1,us-east4")
BUDGET_USD = 60
WATCH = (
    *("--watch", "--zone", "us-central1-a,us-east4-c", "--provisioning", "spot,flex-start"),
    *("--budget", f"{BUDGET_USD}"),
)
TAKEN = (
    r"Google took mayfly-away; bringing it up again within the (?P<hours>[0-9.]+) h "
    r"and (?P<usd>[0-9.]+) USD that are left\."
)
POLL_S = 0.2
# Google says "no" in an operation, by 503, and by 503 though it makes the VM; then there is room.
NO_ROOM_AT_HOME = {
    "capacity": [
        {"zone": "us-central1-a", "room": "never", "names": ["us-central1-c"]},
        {"zone": "us-central1-c", "room": "never", "names": [], "answer": "stockout-http-503"},
    ],
    "faults": [{"fault": "http-5xx-after", "where": {"zone": "us-east4-c"}}],
}
TAKEN_ABROAD = {"capacity": [{"zone": "us-east4-c", "room": "never", "reclaims": True}]}
FLEX_START_ONLY = {"capacity": [{"model": "SPOT", "room": "never", "reclaims": True}]}
ADVICE = "us-central1-a=0.9,us-central1-c=0.6,us-east4-c=0.3"
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Running:
    """A command of ours that goes on."""

    child: "subprocess.Popen[str]"
    out: Path
    err: Path

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so often."""
        self.wait(lambda: self.err.read_text().count(text) >= times)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Wait until that is so, which must be before it ends."""
        wait_until(lambda: condition() or self.child.poll() is not None, LIMIT_S, poll_s=POLL_S)
        assert condition(), self.err.read_text()[-4000:]


@dataclass(frozen=True)
class Landing:
    """What one `mayfly up` said, and what was there after it."""

    status: int
    out: str
    err: str
    vms: list[vms.Vm]


class Desk:
    """A user's folder and shell, and the local cloud that they lead to."""

    def __init__(self, local: LocalCloud, project: Path) -> None:
        self.world = local.world
        described = local.describe()
        variables = described["exports"]
        path = os.pathsep.join([str(find_engine().parent), os.environ["PATH"]])
        os.environ.update(variables | {"PATH": variables["PATH"].replace("$PATH", path)})
        self.cloud = connect(described["project"])
        self.state = names.bucket(self.cloud.project, "state")
        self.witness = Witness(self.cloud, self.state)
        self.project = project
        make_project(project, self.cloud.project)

    def up(self, *words: str) -> tuple[int, str, str]:
        with running(
            [*MAYFLY, "up", "--session", SESSION, *MACHINE, *words],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            out, err = child.communicate(timeout=LIMIT_S)
        return child.returncode, out, err

    @contextmanager
    def going_on(self, *words: str) -> Iterator[Running]:
        """A command that goes on beside the test; Ctrl-C ends it after the block."""
        out, err = self.project / f"{words[0]}.out", self.project / f"{words[0]}.err"
        with (
            out.open("wb") as stdout,
            err.open("wb") as stderr,
            running(
                [*MAYFLY, *words],
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            ) as child,
        ):
            try:
                yield Running(child, out, err)
            finally:
                if child.poll() is None:
                    child.send_signal(signal.SIGINT)
                child.wait(LIMIT_S)

    def play(self, capacity: Mapping[str, Any]) -> None:
        """Where there is room from now on, and what goes wrong."""
        with self.world.lock:
            self.world.of(Capacity).play(pattern.parse(capacity))

    def stage(self, vm: vms.Vm, name: str) -> timeline.Stage | None:
        """A stage of the VM's start that has ended."""
        claims = self.cloud.compute.guest_attributes(vm.zone, vm.name, names.GUEST_PATH) or {}
        stages = timeline.parse(claims.get("timeline", ""))
        return next((s for s in stages if s.name == name and s.end is not None), None)

    def lives(self) -> list[tuple[str, str]]:
        """Which VMs of this session have ended, and by whom, by the ledger; the reaper looks."""
        job = f"projects/{self.cloud.project}/locations/us-central1/jobs/mayfly-reaper"
        self.cloud.scheduler.run(job)
        listed = [str(o["name"]) for o in self.cloud.storage.list(self.state, names.LEDGER_PREFIX)]
        blobs = [(name, self.cloud.storage.get(self.state, name)) for name in listed]
        records = [ledger.from_json(blob.data, name) for name, blob in blobs if blob]
        ended = [r for r in records if r.session == SESSION and r.seconds]
        ended.sort(key=lambda record: str(record.created))
        return [(record.instance_id, record.ended_by) for record in ended]

    def down(self) -> None:
        command = [*MAYFLY, "down", SESSION, "--yes"]
        subprocess.run(command, cwd=self.project, check=True, timeout=LIMIT_S, capture_output=True)

    def vms(self) -> list[vms.Vm]:
        return vms.sessions(self.cloud)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """One local cloud for all; its path is short, because a socket's name has 107 bytes."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mf-") as name:
        folder = Path(name)
        (folder / "project").mkdir()
        local = LocalCloud(Options(directory=folder / "cloud", settings=dict(SETTINGS)))
        try:
            # As `python -m local` leaves it: the stand-in gcloud looks there.
            (folder / "cloud/local.json").write_text(json.dumps(local.describe()))
            yield Desk(local, folder / "project")
        finally:
            local.stop()
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(scope="module")
def landing(desk: Desk) -> Landing:
    """The whole way from an empty project: foundation, a subnet abroad, weights, no room at home,
    and one VM that serves."""
    desk.play(NO_ROOM_AT_HOME)
    desk.world.change_settings({"obtainability": ADVICE})
    return Landing(*desk.up(*WHERE, "--json"), desk.vms())


def test_up_lands_in_another_region_when_its_own_has_no_room(desk, landing):
    """An hour is lost where a stockout ends it; a second VM is a forgotten bill."""
    assert landing.status == 0, landing.err[-4000:]
    told = json.loads(landing.out)
    assert [(a["zone"], a["outcome"]) for a in told["attempts"]] == [
        ("us-central1-a", "no capacity in the zone; Google names us-central1-c"),
        ("us-central1-c", "no capacity in the zone"),
        ("us-east4-c", "a VM of that name exists: this launch may have made it"),
        ("us-east4-c", "it serves"),
    ]
    assert "mayfly-away in us-east4-c is outside the state; it is taken in" in landing.err
    assert "it is taken away" not in landing.err, "the VM that was made is the VM that serves"
    there = f"us-east4-c/instances/{names.vm(SESSION)}"
    listed = desk.cloud.compute.operations("")
    made = [op for op in listed if op["operationType"] == "insert" and not op.get("error")]
    assert len([op for op in made if op["targetLink"].endswith(there)]) == 1
    assert told["attempts"][3]["egress_usd"] == pytest.approx(11.9, abs=0.1)
    (vm,) = landing.vms
    assert (vm.zone, vm.id) == ("us-east4-c", told["outputs"]["vm_id"])
    assert vm.settings["hourly_usd"] == told["attempts"][3]["usd_per_hour"]
    assert vm.settings["rate_source"].startswith("Google's price history in project")
    assert vm.settings["max_life_s"] == 3600


def test_watched_session_serves_on_at_its_address_when_google_takes_its_vm(desk, landing):
    """An evaluation of hours on spot GPUs: its client sees a pause, and the same URL and key."""
    (first,) = landing.vms
    assert wait_until(lambda: desk.stage(first, "save"), LIMIT_S, poll_s=POLL_S).ok
    with desk.going_on("up", "--session", SESSION, *MACHINE, *WATCH) as watch:
        watch.says("is in us-east4-c already")
        watch.says("Watching away;")
        with desk.going_on("connect", SESSION, "--json", "--show-key") as client:
            client.wait(lambda: client.out.read_text().endswith("\n"))
            endpoint = json.loads(client.out.read_text())
            assert wait_until(lambda: models(endpoint), LIMIT_S, poll_s=POLL_S) == [
                endpoint["model"]
            ]

            desk.play(TAKEN_ABROAD)

            watch.says(" in us-central1-a at ")
            left = re.search(TAKEN, watch.err.read_text())
            assert left is not None, watch.err.read_text()[-4000:]
            assert 0 < float(left["hours"]) <= 1
            assert 0 < float(left["usd"]) < BUDGET_USD
            (second,) = desk.vms()
            assert (second.zone, second.id != first.id) == ("us-central1-a", True)
            assert second.settings["max_life_s"] < 3600, "one hour for both"
            restored = desk.stage(second, "caches")
            assert restored is not None
            assert (restored.ok, bool(restored.bytes)) == (True, True), "compiled once for both"
            client.says("Connected again.")
            assert wait_until(lambda: models(endpoint), LIMIT_S, poll_s=POLL_S) == [
                endpoint["model"]
            ]
        assert client.child.returncode == 0, client.err.read_text()

        desk.play(FLEX_START_ONLY)

        watch.says("bringing it up again", times=2)
        watch.wait(lambda: [vm for vm in desk.vms() if vm.provisioning == "flex-start"])
    assert watch.child.returncode == 1
    check_what_is_left(desk, watch.err.read_text())
    desk.down()
    assert desk.vms() == []
    assert desk.witness.resources(SESSION) == []
    lives = wait_until(lambda: len(found := desk.lives()) >= 2 and found, LIMIT_S, poll_s=2)
    assert lives[:2] == [(first.id, "google"), (second.id, "google")]


def check_what_is_left(desk: Desk, said: str) -> None:
    """Ctrl-C came while the third VM was being made: it is whole or gone, and said to be so."""
    what, there, remedy = said.strip().splitlines()[-3:]
    assert (what, remedy.partition(",")[0]) == ("Interrupted.", "Try: mayfly up --session away")
    held = [r for r in desk.witness.resources(SESSION) if r == names.INSTANCE_TYPE]
    assert [vm.id for vm in desk.vms() if f"({vm.id})" in there] == [vm.id for vm in desk.vms()]
    assert len(held) == len(desk.vms())
    assert held or there == "No VM is there; nothing is billed."
    for prefix in (names.stack_locks(SESSION), names.watch(SESSION)):
        assert list(desk.cloud.storage.list(desk.state, prefix)) == []


def models(endpoint: dict[str, Any]) -> list[str]:
    """The models that the endpoint offers now; none where it does not answer."""
    key = {"Authorization": f"Bearer {endpoint['api_key']}"}
    try:
        answer = requests.get(f"{endpoint['base_url']}/models", headers=key, timeout=10)
    except requests.RequestException:
        return []
    return [model["id"] for model in answer.json()["data"]] if answer.ok else []
