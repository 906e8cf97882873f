"""`mayfly init`: one message for each bad day, nothing left behind, and a second run completes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from local.children import Children
from local.cloud import start_storage
from local.rest.kms import Keys
from local.rest.quotas import Quotas
from local.rest.secrets import Secrets
from local.rest.serviceusage import Services
from local.rest.storage import Buckets
from local.rest.world import World
from local.tools_found import fake_gcs_server
from mayfly import names
from mayfly.cli import main
from mayfly.cloud import connect
from mayfly.setup import releases
from tests.conftest import ROOT
from tests.desk.project import serving
from tests.running import running

PROJECT, BUCKET = "proj-one", "proj-one-mayfly-state"
KEY = f"projects/{PROJECT}/locations/us-central1/keyRings/mayfly/cryptoKeys/state"
QUIET = ("init", "--yes", "--no-hf-token")
LIMIT_S = 60
# As much of pulumi as init asks for: a stack is an object in the bucket, a key a line in its file.
STUB = """#!{python}
import json, os, sys, urllib.request, yaml
words = sys.argv[1:]
with open(os.environ["STUB_LOG"], "a") as log: log.write(" ".join(words) + chr(10))
login = os.environ["STUB_LOG"] + ".login"
if words[0] == "whoami":
    url = open(login).read() if os.path.exists(login) else sys.exit("error: no login")
    print(json.dumps({{"user": "ann", "url": url}}))
elif words[0] == "login":
    open(login, "w").write(words[1])
elif words[:2] == ["stack", "init"]:
    bucket, name = os.environ["STUB_BUCKET"], ".pulumi/stacks/mayfly/" + words[2] + ".json"
    url = "http://{{}}/upload/storage/v1/b/{{}}/o?uploadType=media&name={{}}".format(
        os.environ["STORAGE_EMULATOR_HOST"], bucket, name)
    signed = {{"Authorization": "Bearer " + os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]}}
    urllib.request.urlopen(urllib.request.Request(url, b"{{}}", signed, method="POST")).read()
    file = "Pulumi." + words[2] + ".yaml"
    held = yaml.safe_load(open(file)) or {{}}
    if "--secrets-provider" in words:
        held["secretsprovider"] = words[words.index("--secrets-provider") + 1]
    yaml.safe_dump(held, open(file, "w"))
elif words[:2] == ["config", "set-all"]:
    file = "Pulumi." + words[words.index("--stack") + 1] + ".yaml"
    held = yaml.safe_load(open(file)) or {{}}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.endswith("[0]"):
            held["config"][key[:-3]][0] = value
        elif equals:
            held.setdefault("config", {{}})[key] = value
    yaml.safe_dump(held, open(file, "w"))
"""


@pytest.fixture
def pulumi(stub, tmp_path_factory) -> Path:
    """The log of what pulumi was asked."""
    stub("pulumi", STUB.format(python=sys.executable))
    log = tmp_path_factory.mktemp("stub") / "log"
    os.environ |= {"STUB_LOG": str(log), "STUB_BUCKET": BUCKET}
    return log


@pytest.fixture
def published(tmp_path_factory) -> Path:
    """A folder with what the publishers offer, small."""
    folder = tmp_path_factory.mktemp("releases")
    for release in releases.releases():
        data = f"program of {release.archive}".encode()
        (folder / release.archive).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        (folder / release.sums).write_text(f"{digest}  {release.archive}\n")
    os.environ[releases.ENVIRONMENT] = folder.as_uri()
    return folder


@pytest.fixture
def world(checkout, tmp_path_factory, pulumi, published):
    """A project as Google makes one, and a checkout as git has it."""
    made = World(PROJECT)
    children = Children(tmp_path_factory.mktemp("logs"))
    objects = tmp_path_factory.mktemp("objects")
    made.of(Buckets).attach(start_storage(children, fake_gcs_server(), objects))
    for stack in ("foundation", "dev", "seed"):
        name = f"Pulumi.{stack}.yaml"
        (checkout / name).write_text((ROOT / name).read_text())
    try:
        with serving(made) as environment:
            environment["STORAGE_EMULATOR_HOST"] = made.base_url.partition("://")[2]
            os.environ.update(environment)
            yield made
    finally:
        children.stop_all()


def config(checkout: Path, stack: str) -> dict:
    return yaml.safe_load((checkout / f"Pulumi.{stack}.yaml").read_text())["config"]


def made(world: World) -> set[str]:
    """What there is that costs or stays."""
    names_ = set(world.of(Buckets).buckets) | set(world.of(Keys).rings)
    return names_ | set(world.of(Secrets).secrets) | set(world.of(Quotas).preferences)


def lines(capfd) -> list[str]:
    return capfd.readouterr().err.strip().splitlines()


def test_init_makes_all_of_it_when_there_is_nothing(world, checkout, pulumi, capfd):
    """Each part where the next command looks for it."""
    assert main(list(QUIET)) == 0

    bucket = world.of(Buckets).buckets[BUCKET]
    assert bucket["location"] == "US-CENTRAL1"
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert world.of(Keys).keys[KEY].resource["rotationPeriod"] == "7776000s"
    assert {"cloudkms.googleapis.com", "cloudquotas.googleapis.com"} <= world.of(Services).on
    asked = pulumi.read_text()
    assert f"login gs://{BUCKET}" in asked
    for stack in ("foundation", "dev", "seed"):
        assert f"stack init {stack} --secrets-provider gcpkms://{KEY}" in asked
        assert config(checkout, stack)["gcp:project"] == PROJECT
    assert config(checkout, "foundation")["mayfly:stateKey"] == KEY
    assert "mayfly:hfTokenSecret" not in config(checkout, "foundation")
    assert "Next: mayfly quota check kimi-k2.5" in capfd.readouterr().err


def test_init_fills_the_manifest_that_the_reaper_reads_when_archives_are_right(world, published):
    """The reaper unpacks exactly what this names, and nothing else."""
    assert main(list(QUIET)) == 0

    cloud = connect(PROJECT)
    blob = cloud.storage.get(BUCKET, names.ENGINE_MANIFEST)
    held = json.loads(blob.data)
    entries = [held["pulumi"], *held["plugins"]]
    assert held["format"] == 1
    assert [p["name"] for p in held["plugins"]] == ["gcp", "command"]
    for entry in entries:
        data = cloud.storage.get(BUCKET, names.ENGINE_PREFIX + entry["archive"]).data
        assert data == (published / entry["archive"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def test_init_does_nothing_when_it_is_repeated(world, checkout, pulumi, capfd):
    """Whoever is not sure runs it again."""
    assert main(list(QUIET)) == 0
    files = [f.read_bytes() for f in sorted(checkout.glob("Pulumi.*"))]
    there, asked = made(world), pulumi.read_text()
    capfd.readouterr()

    assert main(list(QUIET)) == 0

    assert "has all of it already" in capfd.readouterr().err
    assert files == [f.read_bytes() for f in sorted(checkout.glob("Pulumi.*"))]
    assert there == made(world)
    assert set(pulumi.read_text()[len(asked) :].split("\n")) <= {
        "",
        "whoami --json --verbose --non-interactive",
    }


def test_init_puts_the_token_into_the_secret_when_stdin_has_one(
    world, checkout, pulumi, capfd, monkeypatch
):
    """Never in an argument, a file, a log or a message."""
    read, write = os.pipe()
    os.write(write, b"hf_not_to_be_seen\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["init", "--yes", "--hf-token-stdin"]) == 0

    secret = f"projects/{PROJECT}/secrets/mayfly-hf-token"
    assert connect(PROJECT).secrets.access(secret) == "hf_not_to_be_seen"
    assert config(checkout, "foundation")["mayfly:hfTokenSecret"] == "mayfly-hf-token"
    said = capfd.readouterr()
    files = "".join(f.read_text() for f in checkout.glob("Pulumi.*"))
    calls = json.dumps(world.calls.report())
    assert "hf_not" not in said.out + said.err + files + pulumi.read_text() + calls


def test_init_refuses_a_token_without_showing_it_when_it_is_none(world, capfd, monkeypatch):
    """A pasted shell line must not end in a log, nor in the secret."""
    read, write = os.pipe()
    os.write(write, b"export TOKEN=hf_x\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["init", "--yes", "--hf-token-stdin"]) == 2

    said = capfd.readouterr().err
    assert "hf_x" not in said
    assert len(said.strip().splitlines()) == 3
    assert made(world) == set()


def test_init_attempts_nothing_when_nobody_confirms(world, checkout, capfd):
    """Shown, then asked: in a pipe that is a dry run."""
    assert main(["init", "--no-hf-token"]) == 2

    said = capfd.readouterr().err
    assert f"- make the state bucket gs://{BUCKET} in us-central1" in said
    assert "Google never deletes one" in said
    assert made(world) == set()
    assert "gcp:project" not in config(checkout, "foundation")


def test_init_takes_region_zone_and_rate_together_when_another_region_is_named(world, checkout):
    """A zone of the old region, or its price, would fail the first up or lie about it."""
    assert main([*QUIET, "--region", "us-east4"]) == 0

    dev, seed = config(checkout, "dev"), config(checkout, "seed")
    assert world.of(Buckets).buckets[BUCKET]["location"] == "US-EAST4"
    assert config(checkout, "foundation")["mayfly:regions"] == ["us-east4"]
    assert dev["mayfly:zone"].startswith("us-east4-")
    assert dev["mayfly:machine"] == "a3-highgpu-8g"
    assert dev["mayfly:hourlyUsd"] != "52.96"
    assert seed["mayfly:zone"].startswith(("us-east4-", "us-central1-"))


@pytest.mark.parametrize(
    ("stack", "change", "words", "said"),
    [
        ("dev", {"gcp:project": "other-project"}, (), "gcp:project: other-project"),
        (
            "foundation",
            {"mayfly:stateBucket": "mine"},
            ("--bucket", "b-other"),
            "stateBucket: mine",
        ),
        (
            "foundation",
            {"gcp:project": PROJECT, "mayfly:regions": ["us-east4"]},
            ("--region", "us-central1"),
            "mayfly:regions: us-east4",
        ),
    ],
)
def test_init_overwrites_nothing_when_a_file_says_otherwise(
    world, checkout, capfd, stack, change, words, said
):
    """A value of the user's own is found out before anything is made, and stays."""
    path = checkout / f"Pulumi.{stack}.yaml"
    path.write_text(yaml.safe_dump({"config": config(checkout, stack) | change}))
    before = path.read_text()

    assert main([*QUIET, "--project", PROJECT, *words]) == 2

    told = lines(capfd)
    assert len(told) == 3
    assert f"Pulumi.{stack}.yaml says" in told[0]
    assert said in told[0]
    assert path.read_text() == before
    assert made(world) == set()


def test_init_mends_a_bucket_that_was_made_by_hand_when_it_keeps_no_versions(world, capfd):
    """The state's last good version is the way back from a broken update."""
    world.of(Buckets).create({"name": BUCKET, "location": "us-central1"})

    assert main(list(QUIET)) == 0

    bucket = world.of(Buckets).buckets[BUCKET]
    assert "keep old versions" in capfd.readouterr().err
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True


def refused(capfd, status: int, words: tuple[str, ...] = ()) -> list[str]:
    """Three lines and an exit code."""
    assert main([*QUIET, *words]) == status
    told = lines(capfd)
    assert len(told) == 3, told
    assert "othing" in told[1]
    assert told[2].startswith("Try: ")
    return told


def test_init_names_the_region_when_the_bucket_is_in_another(world, capfd):
    """A bucket cannot move, and state is not read across an ocean by accident."""
    world.of(Buckets).create({"name": BUCKET, "location": "europe-west1"})

    told = refused(capfd, 2)

    assert told[0].startswith(f"gs://{BUCKET} is in europe-west1, not in us-central1")
    assert "mayfly init --region europe-west1" in told[2]
    assert made(world) == {BUCKET}


def test_init_names_the_bucket_when_it_belongs_to_somebody_else(world, capfd):
    """Bucket names are the whole world's: never write a state into a stranger's."""
    world.of(Buckets).create({"name": BUCKET, "location": "us-central1"})
    world.of(Buckets).buckets[BUCKET]["projectNumber"] = "42"

    assert "belongs to another project" in refused(capfd, 2)[0]


def test_init_says_billing_when_it_is_off(world, capfd):
    """Each Google product says it in other words, some as a missing right."""
    world.change_settings({"billing": "false"})

    assert main(list(QUIET)) == 3
    by_refusal = lines(capfd)[-3:]  # cloudbilling is off too: only switching on tells
    world.of(Services).on.add("cloudbilling.googleapis.com")
    told = refused(capfd, 3)

    assert told == by_refusal
    assert told[0].startswith(f"Billing is off for project {PROJECT}")
    assert f"gcloud billing projects link {PROJECT}" in told[2]
    assert made(world) == set()


def test_init_says_which_policy_when_external_addresses_are_forbidden(world, capfd):
    """Found before the first VM: the seed would fail after ten minutes of foundation."""
    world.of(Services).on.add("cloudresourcemanager.googleapis.com")
    world.change_settings({"external_ips": "false"})

    told = refused(capfd, 3)

    assert "constraints/compute.vmExternalIpAccess" in told[0]
    assert "mayfly init --no-seed" in told[2]
    assert made(world) == set()
    assert main([*QUIET, "--no-seed"]) == 0


def test_init_names_the_project_when_there_is_none(world, capfd):
    """Google's own words are those of a missing right."""
    told = refused(capfd, 1, ("--project", "no-such-project"))

    assert told[0] == "There is no project no-such-project, or you have no rights in it."
    assert told[2] == "Try: gcloud projects list"
    assert made(world) == set()


def test_init_names_the_login_when_there_are_no_credentials(world, capfd):
    """The first thing that a new machine lacks."""
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/nowhere.json"

    told = lines(capfd) if main(list(QUIET)) == 1 else []

    assert len(told) == 3
    assert "No usable Google credentials" in told[0]
    assert told[2] == "Try: gcloud auth application-default login"
    assert made(world) == set()


def test_init_says_that_nobody_answers_when_there_is_no_network(world, capfd):
    """Within seconds, not after pulumi's minutes."""
    os.environ["GOOGLE_SERVICE_USAGE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/serviceusage/v1/"

    told = refused(capfd, 1)

    assert "Google does not answer" in told[0]
    assert made(world) == set()


def test_init_says_what_to_unset_when_the_shell_has_another_backend(world, capfd):
    """pulumi would put the stacks there, and the reaper never find them."""
    os.environ["PULUMI_BACKEND_URL"] = "file:///tmp/state"

    assert refused(capfd, 2)[2] == "Try: unset PULUMI_BACKEND_URL"
    assert made(world) == set()


def test_init_leaves_the_reapers_engine_when_an_archive_is_not_its_publishers(
    world, published, capfd
):
    """What the reaper runs has the right to delete VMs."""
    archive = published / releases.releases()[1].archive
    archive.write_bytes(b"something else")

    assert main(list(QUIET)) == 1

    told = lines(capfd)
    assert "its publisher says" in told[-3]
    assert "was not put into the bucket" in told[-2]
    assert connect(PROJECT).storage.get(BUCKET, names.ENGINE_MANIFEST) is None


def test_init_completes_when_the_first_run_was_interrupted(world, published, capfd):
    """Ctrl-C in the middle of the largest download, then the same command again."""
    waiting, go = threading.Event(), threading.Event()

    class Slow(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            if "resource-gcp" in self.path:
                waiting.set()
                go.wait(LIMIT_S)
            super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(published)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    os.environ[releases.ENVIRONMENT] = f"http://127.0.0.1:{server.server_port}"
    try:
        with running(
            [sys.executable, "-m", "mayfly.cli", *QUIET],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as process:
            assert waiting.wait(LIMIT_S)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=LIMIT_S)
        go.set()
        assert connect(PROJECT).storage.get(BUCKET, names.ENGINE_MANIFEST) is None
        second = main(list(QUIET))
    finally:
        server.shutdown()
        server.server_close()

    assert process.returncode == 1
    told = said.strip().splitlines()[-3:]
    assert told[0].startswith("Stopped at: bring pulumi")
    assert "3 of 8 steps are done and stay" in told[1]
    assert told[2].startswith("Try: mayfly init")
    assert second == 0
    assert connect(PROJECT).storage.get(BUCKET, names.ENGINE_MANIFEST) is not None


def test_pinned_engine_is_the_one_that_tests_run_when_compared():
    """A reaper with another engine than our own tests would be the untested one."""
    from local.tools_found import PULUMI_VERSION

    assert f"v{releases.PULUMI_VERSION}" == PULUMI_VERSION
