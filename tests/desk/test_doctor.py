"""`mayfly doctor` against the local cloud's own Google: a good project green, a bad one red."""

import getpass
import json
import os
import socket
import subprocess

import pytest

from local.children import Children
from local.cloud import start_storage
from local.rest.compute.store import Store
from local.rest.quotas import Quotas
from local.rest.storage import Buckets
from local.rest.world import World
from local.tools_found import fake_gcs_server
from mayfly import names
from mayfly.cli import main
from mayfly.cloud import Cloud, connect
from mayfly.doctor import examine
from mayfly.doctor.state import LOCKS
from tests.cloud.conftest import spot_vm
from tests.desk import schemas, schemas_launch, standing
from tests.desk.project import serving
from tests.desk.standing import JOB, MODEL, PROJECT, STATE, WEIGHTS
from tests.waiting import wait_until

OLD = "2026-01-01T00:00:00.000-08:00"
H100 = "PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region"
ZONE = f"projects/{PROJECT}/zones/us-central1-a"
PULUMI = """#!/bin/sh
case "$1" in
version) echo "v${STUB_VERSION:-3.259.0}" ;;
whoami) echo "{\\"user\\": \\"ann\\", \\"url\\": \\"${PULUMI_BACKEND_URL:-gs://%s}\\"}" ;;
*) exit 1 ;;
esac
"""
GCLOUD = "#!/bin/sh\necho ann@example.com\n"


@pytest.fixture
def desk(checkout, stub, tmp_path):
    """A gcloud and a pulumi that are logged in, and the stacks' files."""
    stub("pulumi", PULUMI % STATE)
    stub("gcloud", GCLOUD)
    os.environ["HOME"] = os.environ["CLOUDSDK_CONFIG"] = str(tmp_path)
    standing.configure(checkout)


@pytest.fixture
def world(desk, checkout, tmp_path_factory):
    """A project as Google makes one, with a store of objects."""
    made = World(PROJECT)
    children = Children(tmp_path_factory.mktemp("logs"))
    objects = tmp_path_factory.mktemp("objects")
    made.of(Buckets).attach(start_storage(children, fake_gcs_server(), objects))
    try:
        with serving(made) as environment:
            environment["STORAGE_EMULATOR_HOST"] = made.base_url.partition("://")[2]
            os.environ.update(environment)
            yield made
    finally:
        children.stop_all()


def doctor(capsys, *words: str) -> tuple[int, dict, str]:
    """Exit code, the JSON, what was said beside it."""
    status = main(["doctor", "--json", *words])
    said = capsys.readouterr()
    found = json.loads(said.out)
    schemas.check(schemas_launch.DOCTOR, found)
    return status, found, said.err


def ids(found: dict) -> set[str]:
    return {finding["id"] for finding in found["findings"] if finding["grave"]}


def spoil(world: World, cloud: Cloud) -> None:
    """A bad day in each room of the project."""
    leave_behind(world, cloud)  # while there is quota for a VM
    world.of(Quotas).limits[H100] = [({"region": "us-central1"}, 0)]
    world.settings["external_ips"] = False
    cloud.ask("POST", "services", f"projects/{PROJECT}/services/iap.googleapis.com:disable", {})
    cloud.storage.change_bucket(STATE, {"versioning": {"enabled": False}})
    cloud.storage.delete(STATE, names.ENGINE_MANIFEST)
    standing.allow(cloud, "roles/storage.objectViewer", "roles/cloudkms.viewer")
    cloud.ask("POST", "scheduler", f"{JOB}:pause", {})
    cloud.storage.delete(WEIGHTS, f"{MODEL}/{names.MANIFEST}")
    rule = f"projects/{PROJECT}/global/firewalls/mayfly-iap-ssh"
    cloud.ask("DELETE", "compute", rule)


def leave_behind(world: World, cloud: Cloud) -> None:
    """A disk, an address and a VM of an old day; two locks, of which one is held."""
    labels = {"mayfly": "session"}
    disk = {"name": "left", "sizeGb": "10", "labels": labels}
    cloud.ask("POST", "compute", f"{ZONE}/disks", disk)
    region = f"projects/{PROJECT}/regions/us-central1"
    cloud.ask("POST", "compute", f"{region}/addresses", {"name": "left", "labels": labels})
    settings = {"key": "mayfly-settings", "value": json.dumps({"state_bucket": STATE})}
    vm = spot_vm(metadata={"items": [settings]})
    cloud.ask("POST", "compute", f"{ZONE}/instances", vm)
    store = world.of(Store)
    wait_until(lambda: store.all("instances"), 60)
    for kind in ("disks", "addresses", "instances"):
        for thing in store.all(kind):
            thing["creationTimestamp"] = OLD
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name, pid in (("gone", gone.pid), ("held", os.getpid())):
        lock = {"pid": pid, "username": getpass.getuser(), "hostname": socket.gethostname()}
        cloud.storage.put(STATE, f"{LOCKS}dev/{name}.json", json.dumps(lock).encode())


LEFT = {"api-off", "lock-left", "disk-left", "address-left"}
STAYS = {
    *("quota-short", "policy-addresses", "reaper-engine", "reaper-blind", "reaper-no-key"),
    *("reaper-paused", "weights-unfinished", "firewall-missing", "vm-unowned"),
}


def test_doctor_finds_nothing_when_all_is_well(world, capsys):
    """Every check was made, and each of them is content."""
    standing.stand(world)

    status, found, err = doctor(capsys)

    assert ids(found) == set()
    assert found["unknown"] == {}
    assert status == 0
    assert err == ""
    assert set(examine.CHECKS) - set(found["fine"]) <= {"prices"}  # the shipped table ages


def test_doctor_finds_each_trouble_and_mends_the_safe_ones(world, capsys):
    """Red for each, then fixed; what is held, used or not safe stays as it is."""
    cloud = standing.stand(world)
    spoil(world, cloud)

    status, found, _ = doctor(capsys)

    assert ids(found) == LEFT | STAYS
    assert status == 3
    assert {"state-bucket-loose"} <= {f["id"] for f in found["findings"]}
    assert found["unknown"] == {}

    status, _, err = doctor(capsys, "--fix", "--yes")

    assert status == 3
    assert "Switched on: iap.googleapis.com." in err
    assert "Removed the lock of" in err
    assert "zones/us-central1-a/disks/left" in err
    assert "regions/us-central1/addresses/left" in err
    status, found, _ = doctor(capsys)
    assert ids(found) == STAYS
    assert [item["name"] for item in cloud.storage.list(STATE, LOCKS)] == [f"{LOCKS}dev/held.json"]
    assert [d["name"] for d in cloud.compute.disks(names.OUR_VMS)] == []
    assert len(list(cloud.compute.instances(names.OUR_VMS))) == 1


def test_doctor_says_what_is_missing_in_a_new_project(world, capsys):
    """Before `mayfly init`: no crash, and the way to go."""
    status, found, _ = doctor(capsys)

    assert status == 3
    assert ids(found) == {"api-off", "state-bucket-missing"}
    assert {f["remedy"] for f in found["findings"] if f["id"] == "state-bucket-missing"} == {
        "mayfly init"
    }
    assert "foundation-missing" in {f["id"] for f in found["findings"]}
    assert all("has not been used" in why for why in found["unknown"].values())


@pytest.fixture
def google(desk):
    """Google without objects: all that the door needs."""
    made = World(PROJECT)
    with serving(made) as environment:
        os.environ.update(environment)
        yield made


def expired() -> None:
    os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"] = "ya29.of-yesterday"


def logged_out() -> None:
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]


def other_project() -> None:
    os.environ["GOOGLE_PROJECT"] = "somebody-elses"
    os.environ["PULUMI_BACKEND_URL"] = "gs://somebody-elses-mayfly-state"


def offline() -> None:
    os.environ["GOOGLE_RESOURCE_MANAGER_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/crm/"


@pytest.mark.parametrize(
    ("day", "id_"),
    [
        (expired, "credentials-expired"),
        (logged_out, "credentials-none"),
        (other_project, "project-unseen"),
        (offline, "google-away"),
    ],
)
def test_doctor_says_one_thing_when_google_says_nothing(google, capsys, day, id_):
    """Of fifteen checks that cannot be made none is fine, and none is a traceback."""
    day()

    status, found, err = doctor(capsys)

    assert status == 3
    assert ids(found) == {id_}
    assert set(found["unknown"]) == set(examine.PROJECT)
    assert set(found["fine"]) <= set(examine.DESK)
    assert err == ""


def test_doctor_tells_people_what_it_tells_scripts(google, capsys):
    """What was seen, what it means, one line to paste; then what is not known."""
    expired()

    assert main(["doctor"]) == 3

    out = capsys.readouterr().out
    assert out.startswith("credentials-expired: ")
    assert "\n  Try: gcloud auth application-default login" in out
    assert "not known: quota: " in out
    assert "fine: " in out


def test_doctor_mends_nothing_when_nobody_can_say_yes(google, capsys):
    """In a pipe, `--fix` alone does not do it."""
    assert main(["doctor", "--fix"]) == 2

    assert "--fix --yes" in capsys.readouterr().err


def test_doctor_refuses_a_profile_that_is_none(google, capsys):
    """Wrong input, and nothing was asked."""
    assert main(["doctor", "--profile", "gpt-9"]) == 2

    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def test_check_that_breaks_is_not_known_and_hides_no_other(google, capsys, monkeypatch):
    """A mistake in one check must not cost the other twenty."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    checks = {**examine.DESK, "gcloud": (broken, examine.DESK["gcloud"][1])}
    monkeypatch.setattr(examine, "DESK", checks)

    _, found, _ = doctor(capsys)

    assert found["unknown"]["gcloud"] == "ZeroDivisionError: a mistake of ours"
    assert "engine" in found["fine"]


def test_connect_is_what_the_fixture_says(google):
    """The gate's twin: without a door the tests above would be green for another reason."""
    assert connect(PROJECT).ask("GET", "projects", f"projects/{PROJECT}")["projectId"] == PROJECT
