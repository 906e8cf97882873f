"""The reaper on the local cloud's own Compute and buckets, with the faults that these can play."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from components.identities import END, LOOK
from local.cloud import LocalCloud, Options
from local.rest.compute.life import Life
from mayfly import names
from mayfly.cloud import Cloud, connect
from mayfly.cloud.http import Retry
from mayfly.ledger import Record, from_json
from reaper.settings import Settings
from reaper.tick import Report, tick
from tests.reaper.google import Google
from tests.reaper.world import SETTINGS, ZONE, add_engine, checkpoint, serving, vm_resource
from tests.waiting import wait_until

IMAGE = "projects/debian-cloud/global/images/family/debian-12"
FAILED = {**serving(), "phase": "failed"}
RETRY = Retry(tries=3, first_delay_s=0.01)


class Here:
    """A local cloud whose instances run nothing, and a reaper that looks at it."""

    def __init__(self, local: LocalCloud, folder: Path) -> None:
        self.local, self.folder = local, folder
        described = local.describe()
        self.api, self.project = described["urls"]["api"], described["project"]
        self.bucket = names.bucket(self.project, "state")
        os.environ.update({k: v for k, v in described["exports"].items() if "GOOGLE_" in k})
        self.cloud: Cloud = connect(self.project, RETRY)
        self.own_token = ""

    def prepare(self) -> None:
        """APIs, and the reaper's account; the conditions are tested with the foundation."""
        project = f"projects/{self.project}"
        for api in ("compute", "iam", "cloudresourcemanager"):
            self.cloud.ask(
                "POST", "services", f"{project}/services/{api}.googleapis.com:enable", {}
            )
        account = {"accountId": names.REAPER}
        made = self.cloud.ask("POST", "iam", f"{project}/serviceAccounts", account)
        wanted = {"title": "reaper", "includedPermissions": [*LOOK, *END]}
        role = {"roleId": "reaper", "role": wanted}
        granted = self.cloud.ask("POST", "iam", f"{project}/roles", role)["name"]
        policy = self.cloud.ask("POST", "projects", f"{project}:getIamPolicy", {})
        policy["bindings"] += [
            {"role": role, "members": [f"serviceAccount:{made['email']}"]}
            for role in (granted, "roles/storage.objectUser")
        ]
        self.cloud.ask("POST", "projects", f"{project}:setIamPolicy", {"policy": policy})
        self.own_token = self.local.world.identity.mint(made["email"])

    def insert(self, session: str, *, action: str = "DELETE") -> str:
        """A spot VM of a session, with its stack; returns its number."""
        # Whatever says "failed" ends at once: a VM this young cannot have been idle for long.
        settings = json.dumps({**SETTINGS, "session": session, "failed_s": 0.001})
        body = {
            "name": names.vm(session),
            "machineType": f"zones/{ZONE}/machineTypes/a3-highgpu-8g",
            "labels": {names.LABEL_LAYER: "session", names.LABEL_SESSION: session},
            "metadata": {
                "items": [
                    {"key": names.SETTINGS_KEY, "value": settings},
                    {"key": "enable-guest-attributes", "value": "TRUE"},
                ]
            },
            "disks": [
                {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE}}
            ],
            "networkInterfaces": [{"network": "global/networks/default"}],
            "scheduling": {
                "provisioningModel": "SPOT",
                "preemptible": True,
                "automaticRestart": False,
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": action,
                "maxRunDuration": {"seconds": 14400},
            },
        }
        path = f"projects/{self.project}/zones/{ZONE}/instances"
        made = self.cloud.ask("POST", "compute", path, body)
        number = str(made["targetId"])
        state = checkpoint(vm_resource(number, session))
        self.cloud.storage.put(self.bucket, names.stack_state(session), state)
        return number

    def says(self, number: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            self.local.world.of(Life).guest_wrote(number, f"mayfly/{key}", value)

    def fault(self, name: str, method: str, **more: Any) -> None:
        order = {"fault": name, "method": method, **more}
        assert requests.post(f"{self.api}/_local/faults", json=order, timeout=10).ok

    def tick(self) -> Report:
        settings = Settings(
            project=self.project, state_bucket=self.bucket, foundation_stack="foundation"
        )
        users = os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
        os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"] = self.own_token
        try:
            return tick(connect(self.project, RETRY), settings, self.folder / "engine")
        finally:
            os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"] = users

    def is_there(self, session: str) -> bool:
        return self.cloud.compute.instance(ZONE, names.vm(session)) is not None

    def record(self, number: str) -> Record:
        blob = self.cloud.storage.get(self.bucket, names.ledger(number))
        assert blob is not None
        return from_json(blob.data, number)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("scale")
    (folder / "cloud").mkdir()
    before = dict(os.environ)
    settings = {"hub_mb": 0, "machines": False}
    started = LocalCloud(Options(directory=folder / "cloud", settings=settings))
    made = Here(started, folder)
    try:
        made.prepare()
        yield made
    finally:
        started.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def here(local: Here, record: Path) -> Iterator[Here]:
    """With a stand-in engine in the bucket: what is under test is what comes before it."""
    drawn = Google()
    add_engine(drawn)
    for (_, name), found in drawn.objects.items():
        local.cloud.storage.put(local.bucket, name, found.data)
    described = local.local.describe()["exports"]
    os.environ.update({k: v for k, v in described.items() if "GOOGLE_" in k})
    yield local
    requests.delete(f"{local.api}/_local/faults", timeout=10)
    local.local.world.change_settings({"operation_s": 0})
    # The stand-in engine changes no state: a stack that was destroyed must not be again.
    for item in local.cloud.storage.list(local.bucket, ".pulumi/stacks/mayfly/"):
        local.cloud.storage.delete(local.bucket, str(item["name"]))


STRUCK = (
    "compute.instances.aggregatedList",
    "compute.instances.getGuestAttributes",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.globalOperations.aggregatedList",
    "storage.objects.*",
)


@pytest.mark.parametrize("method", STRUCK)
@pytest.mark.parametrize("fault", ["http-5xx", "http-5xx-after", "dropped-before", "dropped-after"])
def test_failed_session_is_gone_and_booked_when_calls_fail(here: Here, fault: str, method: str):
    """Each kind of call, refused or unanswered, before or after it took effect."""
    session = f"s{STRUCK.index(method)}-{fault}"
    number = here.insert(session)
    here.says(number, FAILED)
    for _ in range(2):
        here.fault(fault, method)

    report = here.tick()

    assert report.errors == []
    assert (report.ledger, report.destroyed) == ([number], [session])
    assert not here.is_there(session)
    life = here.record(number)
    assert (life.ended_by, life.reason[:13]) == ("reaper", "it failed and")


def test_delete_that_runs_on_is_booked_by_a_later_run(here: Here):
    """An operation that is not done has no end yet, and a record is written once."""
    number = here.insert("slow")
    here.says(number, FAILED)
    here.fault("slow-operation", "compute.instances.delete", **{"with": {"seconds": 2, "polls": 0}})

    reports = [here.tick()]
    while not reports[-1].ledger and len(reports) < 30:
        time.sleep(0.3)
        reports.append(here.tick())

    assert reports[0].ledger == []
    assert reports[-1].ledger == [number]
    assert here.record(number).reason.startswith("it failed and")


def test_preempted_vm_is_booked_as_googles_and_its_stack_goes(here: Here):
    """Stopped, not deleted: its boot disk would stay for ever, and nobody here ended it."""
    number = here.insert("taken", action="STOP")
    here.says(number, serving())
    here.tick()
    requests.post(f"{here.api}/_local/preempt/{ZONE}/mayfly-taken", timeout=10).raise_for_status()
    wait_until(
        lambda: (
            (here.cloud.compute.instance(ZONE, "mayfly-taken") or {}).get("status") == "TERMINATED"
        )
    )

    report = here.tick()

    assert (report.deleted, report.destroyed) == (["mayfly-taken"], ["taken"])
    life = here.record(number)
    assert (life.ended_by, life.reason) == ("google", "preempted")


def test_deadline_of_compute_itself_is_booked_as_googles(here: Here):
    """The third layer: it ends what the other two did not, and the book says so."""
    number = here.insert("late")
    here.says(number, serving())
    here.tick()
    world, real = here.local.world, here.local.world.clock
    world.clock = lambda: real() + 14401
    try:
        wait_until(lambda: not here.is_there("late"))
        report = here.tick()
    finally:
        world.clock = real

    assert (report.ledger, report.destroyed) == ([number], ["late"])
    life = here.record(number)
    assert (life.ended_by, life.reason) == ("google", "its longest life of 14400 s was over")
    assert life.usd == pytest.approx(4 * SETTINGS["hourly_usd"], rel=0.01)


def test_life_between_two_runs_is_found_by_its_operations(here: Here):
    """Made and deleted by hand before the reaper ever looked: it cost money all the same."""
    number = here.insert("brief")
    here.cloud.compute.delete_instance(ZONE, number)

    report = here.tick()

    assert (report.ledger, report.destroyed) == ([number], ["brief"])
    life = here.record(number)
    assert (life.ended_by, life.profile) == ("user", "kimi-k2.5")
    assert life.usd is not None
