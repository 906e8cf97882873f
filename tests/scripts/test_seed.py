"""Seeding: the real huggingface_hub client against the local hub, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import hub as hubs
from startup import manifest
from tests.fake_google import manifest_of
from tests.scripts.conftest import STARTUP

MODEL = "example/model"
COMMIT = "4d01dfe0332d63057c186e0b262165819efb6611"
URI = "gs://w/models/example--model/x"
FILES = {
    "config.json": b"{}\n",
    "figures/banner.png": b"png" * 99,
    "model-00001-of-00002.safetensors": os.urandom(400_000),
    "model-00002-of-00002.safetensors": os.urandom(300_000),
}


@pytest.fixture
def hub(tmp_path):
    """A hub with one repository; `repo.gated` closes it to all but hf_good."""
    folder = tmp_path / "repo"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    made = hubs.Hub({MODEL: hubs.Repo(folder, COMMIT)}, frozenset({"hf_good"}))
    server = hubs.serve(made)
    made.folder, made.url = folder, f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def seed(machine, hub):
    """seed(**settings) -> the finished process."""

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        (machine.root / "run/mayfly/bytes").mkdir(parents=True, exist_ok=True)
        settings = {
            "MAYFLY_MODEL": MODEL,
            "MAYFLY_REVISION": COMMIT,
            "MAYFLY_WEIGHTS_URI": URI,
            "MAYFLY_DISK_GB": "1",
            "MAYFLY_PARALLEL": "2",
            "MAYFLY_HF_TOKEN_SECRET": "",
            "MAYFLY_STAGE": "weights",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(machine.root / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(STARTUP.parent),
        }
        return subprocess.run(
            [sys.executable, "-m", "startup.seed"],
            env=machine.environment(**{**settings, **more}),
            cwd=machine.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def in_bucket(machine) -> dict[str, bytes]:
    folder = machine.google.buckets / URI.removeprefix("gs://")
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def uploads(machine) -> list[str]:
    return [call.split(" cp ")[1] for call in machine.calls("gsutil")]


def test_seed_brings_every_file_and_the_manifest_last_when_the_bucket_is_empty(seed, machine):
    """A manifest is the promise that all before it is there."""
    result = seed()

    assert result.returncode == 0, result.stdout + result.stderr
    found = in_bucket(machine)
    told = json.loads(found.pop("manifest.json"))
    assert {name: found[name] for name in FILES} == FILES
    assert told["source"] == f"{MODEL}@{COMMIT}"
    wanted = json.loads(manifest_of(FILES))["files"]
    assert told["files"] == sorted(wanted, key=lambda row: row["name"])
    assert list(manifest.changed(manifest.parse(json.dumps(told)), URI)) == []
    assert machine.read("run/mayfly/bytes/weights") == str(sum(map(len, FILES.values())))
    assert machine.google.guest["message"].startswith("4 of 4 files, ")


def test_seed_leaves_nothing_on_the_disk_when_it_is_done(seed, machine):
    """The disk is small; a shard that stays is a shard that cannot come."""
    seed()

    left = [p.name for p in (machine.root / "var/cache/mayfly/hub").glob("*") if p.is_file()]
    assert not [name for name in left if name.endswith(".safetensors")]


def test_seed_moves_nothing_when_the_manifest_holds(seed, machine):
    """`mayfly seed` again costs a minute of a small machine, not an hour."""
    seed()
    before = len(machine.calls("gsutil"))

    result = seed()

    assert f"{URI} is complete" in result.stdout
    assert len(machine.calls("gsutil")) == before


def test_seed_goes_on_where_it_stopped_when_it_was_cut_off(seed, machine, hub):
    """A spot machine may go at shard 60 of 64."""
    rows = [
        {**row, "source": f"sha256:{row['sha256']}"}
        for row in json.loads(manifest_of(FILES))["files"]
        if row["name"].endswith(".safetensors")
    ]
    for name in FILES:
        machine.google.put(f"{URI}/{name}", FILES[name])
    machine.google.put(f"{URI}/manifest.partial.json", json.dumps({"files": rows}))

    result = seed()

    assert "2 of 4 files are there already" in result.stdout
    assert not [call for call in hub.calls if "/cdn/" in call]
    assert set(FILES) <= set(in_bucket(machine))


def test_seed_brings_a_file_again_when_its_object_has_changed(seed, machine):
    """The record says what was there, the bucket says what is."""
    seed()
    name = "model-00002-of-00002.safetensors"
    machine.google.put(f"{URI}/{name}", b"x" * 300_000)

    result = seed()

    assert f"seeding again, since {name} has crc32c" in result.stdout
    assert machine.google.read(f"{URI}/{name}") == FILES[name]


def test_seed_stops_with_the_name_when_the_content_is_not_the_hubs(seed, machine, hub):
    """Only the hub's own hash says what the model is."""
    name = "model-00001-of-00002.safetensors"
    hub.repos[MODEL].oid(name)  # the hash is told, then the content changes
    (hub.folder / name).write_bytes(b"y" * 400_000)

    result = seed()

    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        f"{name} came twice with another content than the hub's hash"
    )
    assert "manifest.json" not in in_bucket(machine)


@pytest.mark.parametrize(
    ("gated", "settings", "line"),
    [
        (True, {}, f"is gated: accept its licence at https://huggingface.co/{MODEL}"),
        (False, {"MAYFLY_MODEL": "example/none"}, "the hub shows no model example/none"),
        (False, {"MAYFLY_REVISION": "f" * 40}, f"has no revision {'f' * 40}; check the profile"),
        (False, {"MAYFLY_REVISION": "main"}, f"main is commit {COMMIT}; pin that commit"),
        (False, {"MAYFLY_DISK_GB": "0.0002"}, "no room: the largest file has 0.0 GB"),
        (False, {"MAYFLY_HF_TOKEN_SECRET": "projects/p/secrets/forbidden"}, "could not read the"),
    ],
)
def test_seed_says_what_to_do_when_it_cannot_go_on(seed, machine, hub, gated, settings, line):
    """Each is a first evening lost, when it comes as a trace."""
    hub.repos[MODEL].gated = gated
    machine.google.faults["forbidden"] = [403]

    result = seed(**settings)

    assert result.returncode == 1
    assert line in result.stdout.splitlines()[-1]
    assert "Traceback" not in result.stdout


def test_seed_opens_a_gated_model_when_the_secret_holds_a_token(seed, machine, hub):
    """The token comes by the machine's own rights, and is never seen."""
    hub.repos[MODEL].gated = True
    machine.google.secrets["projects/p/secrets/hf"] = "hf_good\n"

    result = seed(MAYFLY_HF_TOKEN_SECRET="projects/p/secrets/hf")

    assert result.returncode == 0, result.stdout
    assert "hf_good" not in result.stdout + result.stderr
    assert not any("hf_good" in call for call in machine.calls())


def test_seed_names_the_right_when_the_bucket_refuses(seed, stub):
    """A 403 of gsutil is one line among many."""
    stub("gsutil", body="echo 'AccessDeniedException: 403 no storage.objects.create' >&2; exit 1")

    result = seed()

    assert result.returncode == 1
    assert "no right to write" in result.stdout.splitlines()[-1]
    assert "pulumi up --stack foundation" in result.stdout.splitlines()[-1]


@pytest.fixture
def uv(machine):
    """A uv that makes an environment with a vllm in it."""
    body = 'last="${*: -1}"; case "$1" in venv) mkdir -p "$last/bin"; touch "$last/bin/python" ;; '
    body += 'pip) for p in "$@"; do if [[ "$p" == */bin/python ]]; then '
    body += 'install -m 755 /dev/null "${p%/python}/vllm"; fi; done ;; esac'
    machine.stub("uv", body=body)
    return machine


def test_engine_seed_packs_what_the_node_unpacks_when_there_is_none(uv, run_stage):
    """The two stages meet only in the bucket."""
    assert run_stage("seed-engine.sh").returncode == 0

    result = run_stage("40-engine.sh")

    assert result.returncode == 0, result.stderr
    assert (uv.root / "opt/mayfly-engine/env/bin/vllm").exists()
    install = next(call for call in uv.calls("uv") if "pip" in call)
    assert "--require-hashes" in install
    assert install.endswith("startup/locks/vllm-0.24.0.lock")


def test_engine_seed_builds_nothing_when_it_is_there(uv, run_stage):
    """Ten minutes and five gigabytes, once for each lock."""
    run_stage("seed-engine.sh")
    before = len(uv.calls("uv"))

    result = run_stage("seed-engine.sh")

    assert "already at" in result.stderr
    assert len(uv.calls("uv")) == before


def test_engine_seed_says_which_lock_is_missing_when_the_profile_names_none_of_ours(uv, run_stage):
    """A typing error in a profile."""
    result = run_stage("seed-engine.sh", MAYFLY_ENGINE_LOCK="vllm-9.lock")

    assert result.returncode == 1
    assert "startup/locks has no vllm-9.lock" in uv.why("seed-engine")


def debs(machine, fabric: str) -> None:
    """An apt-get that downloads these packages."""
    names = [
        "nvidia-utils-580-server_580.159.04-0ubuntu0.22.04.1_amd64.deb",
        f"nvidia-fabricmanager-580_{fabric}-0ubuntu0.22.04.1_amd64.deb",
        "libc6_2.35-0ubuntu3.11_amd64.deb",
    ]
    folder = machine.root / "var/cache/mayfly/driver-seed/archives"
    touch = "; ".join(f"echo x >{folder}/{name}" for name in names)
    machine.stub("apt-get", body=f'if [[ "$*" == *--download-only* ]]; then {touch}; fi')
    machine.write("usr/share/keyrings/ubuntu-archive-keyring.gpg", "")


def test_driver_seed_keeps_only_the_drivers_packages_when_apt_brings_more(machine, run_stage):
    """Another libc on the GPU node would break more than it mends."""
    debs(machine, "580.159.04")

    result = run_stage("seed-driver.sh")

    assert result.returncode == 0, result.stderr
    rows = json.loads(machine.google.read("gs://w/drivers/580/manifest.json"))["files"]
    assert [row["name"].partition("_")[0] for row in rows] == [
        "nvidia-fabricmanager-580",
        "nvidia-utils-580-server",
    ]


def test_driver_seed_refuses_when_the_fabric_manager_lags_behind(machine, run_stage):
    """The archive publishes the two a day apart; CUDA wants them equal."""
    debs(machine, "580.126.09")

    result = run_stage("seed-driver.sh")

    assert result.returncode == 1
    assert "driver 580.159.04 but fabric manager 580.126.09" in machine.why("seed-driver")


def test_driver_seed_does_nothing_when_the_engine_takes_any_driver(machine, run_stage):
    """An empty branch has no folder in the bucket."""
    assert run_stage("seed-driver.sh", MAYFLY_DRIVER_BRANCH="").returncode == 0
    assert machine.calls("apt-get", "gsutil") == []


def test_tools_seed_installs_once_when_it_runs_twice(uv, run_stage):
    """A seed that was cut off starts again from the first stage."""
    assert run_stage("seed-tools.sh").returncode == 0
    before = len(uv.calls("uv"))

    assert "already in" in run_stage("seed-tools.sh").stderr
    assert len(uv.calls("uv")) == before
    assert Path(uv.root / "opt/mayfly-seed/.complete").exists()
