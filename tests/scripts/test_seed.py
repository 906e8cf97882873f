"""Seeding: the real huggingface_hub client against the local hub, in a process of its own."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from local import hub as hubs
from startup import manifest, seed_pack
from startup.seed_hub import Hub
from startup.seed_transfer import Job
from startup.seed_upload import SeedError, store
from tests.fake_google import google_error, manifest_of
from tests.running import running
from tests.scripts.conftest import STARTUP

MODEL = "example/model"
PAGE = f"https://huggingface.co/{MODEL}"
DENIED = "seeder@p.iam does not have storage.objects.create access to the object."
ABSENT = "The billing account for the owning project is disabled in state absent"
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
    made = hubs.Hub(
        {MODEL: hubs.Repo(folder, COMMIT)}, frozenset({"hf_good"}), frozenset({"hf_stranger"})
    )
    server = hubs.serve(made)
    made.folder, made.url = folder, f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def start_seed(machine, hub):
    """with start_seed(**settings) as process: it runs; first: a command of its own namespace."""

    def start(
        first: str = "", **more: str
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
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
        alone = ["unshare", "-Urm", "sh", "-c", f'{first} && exec "$@"', "sh"] if first else []
        return running(
            [*alone, sys.executable, "-m", "startup.seed"],
            env=machine.environment(**{**settings, **more}),
            cwd=machine.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.fixture
def seed(start_seed):
    """seed(**settings) -> the finished process."""

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        with start_seed(**more) as process:
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


def in_bucket(machine) -> dict[str, bytes]:
    folder = machine.google.buckets / URI.removeprefix("gs://")
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".meta"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def stored(machine, below: str = "models/example--model/x/") -> list[str]:
    """The names that were uploaded below a folder, in order."""
    calls = [c for c in machine.google.asked if c.startswith("/upload/storage/")]
    names = [parse_qs(urlsplit(call).query)["name"][0] for call in calls]
    return [name.removeprefix(below) for name in names if name.startswith(below)]


def last_line(result) -> str:
    """What the user reads."""
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout.splitlines()[-1]


def test_seed_brings_every_file_and_the_manifest_last_when_the_bucket_is_empty(seed, machine):
    """A manifest is the promise that all before it is there."""
    result = seed()

    assert result.returncode == 0, result.stdout + result.stderr
    found = in_bucket(machine)
    told = json.loads(found.pop("manifest.json"))
    assert found == FILES
    assert stored(machine)[-1] == "manifest.json"
    assert told["source"] == f"{MODEL}@{COMMIT}"
    wanted = json.loads(manifest_of(FILES))["files"]
    assert told["files"] == sorted(wanted, key=lambda row: row["name"])
    assert list(manifest.changed(manifest.parse(json.dumps(told)), URI)) == []
    assert machine.read("run/mayfly/bytes/weights") == str(sum(map(len, FILES.values())))


def test_seed_tells_how_far_how_fast_and_how_long_when_it_works(seed, machine):
    """`pulumi up` and `mayfly logs --seed` show this line."""
    seed()

    told = machine.google.guest["message"]
    assert re.fullmatch(r"4 of 4 files, 0\.0 of 0\.0 GB, \d+ MB/s, 0 min left", told), told


def test_seed_leaves_nothing_on_the_disk_when_it_is_done(seed, machine):
    """The disk is small; a shard that stays is a shard that cannot come."""
    seed()

    left = [p for p in (machine.root / "var/cache/mayfly/hub").rglob("*") if p.is_file()]
    assert not [p for p in left if p.suffix in (".safetensors", ".json", ".png", ".incomplete")]


def test_seed_holds_no_more_on_the_disk_than_it_may_when_files_wait(seed, machine, hub):
    """A 200 GB disk for a 595 GB model."""
    most = []
    work = machine.root / "var/cache/mayfly/hub"

    def look(_: str) -> None:
        shards = [p for p in work.rglob("*") if p.suffix in (".safetensors", ".incomplete")]
        with contextlib.suppress(FileNotFoundError):
            most.append(sum(p.stat().st_size for p in shards))

    hub.hook = machine.google.hook = look

    result = seed(MAYFLY_DISK_GB="0.0005")  # either shard fits, both do not

    assert result.returncode == 0, result.stdout
    assert 300_000 <= max(most) <= 500_000


def test_seed_moves_nothing_when_the_manifest_holds(seed, machine):
    """`mayfly seed` again costs a minute of a small machine, not an hour."""
    seed()
    before = len(stored(machine))

    result = seed()

    assert f"{URI} is complete" in result.stdout
    assert len(stored(machine)) == before


KILLS = {
    "in-the-middle-of-a-download": ("hub", "GET /cdn/", 1),
    "after-a-download": ("google", "POST /upload/", 1),
    "after-an-upload": ("google", "PUT /upload/", 1),
    "after-the-last-upload": ("google", "PUT /upload/", 4),
    "before-the-manifest": ("google", "POST /upload/", 5),
    "after-the-manifest": ("google", "PUT /upload/", 5),
}


@pytest.mark.parametrize("when", KILLS)
def test_seed_moves_only_what_is_missing_when_it_was_killed(start_seed, seed, machine, hub, when):
    """A machine may go at any moment; 595 GB are moved once."""
    where, sign, nth = KILLS[when]
    seen, started = itertools.count(1), threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def kill(call: str) -> None:
        if call.startswith(sign) and next(seen) == nth:
            assert started.wait(60)
            processes[0].kill()
            processes[0].wait(60)  # or the answer might still reach it

    (hub if where == "hub" else machine.google).hook = kill
    with start_seed() as process:
        processes.append(process)
        started.set()
        out, err = process.communicate(timeout=60)
        assert process.returncode == -9, out + err
    hub.hook = machine.google.hook = lambda call: None
    there = set(in_bucket(machine))
    hub.calls.clear()
    before = len(stored(machine))

    result = seed()

    assert result.returncode == 0, result.stdout
    assert in_bucket(machine).keys() == {*FILES, "manifest.json"}
    # What was on its way when the seed died may have arrived after that look: then it is not moved.
    assert set(stored(machine)[before:]) <= {*FILES, "manifest.json"} - there
    asked = " ".join(call for call in hub.calls if "/resolve/" in call)
    assert not [name for name in there & FILES.keys() if name in asked]
    assert not list((machine.root / "var/cache/mayfly/hub").rglob("*.incomplete"))


def test_seed_brings_a_file_again_when_its_object_has_changed(seed, machine):
    """The record says what was there, the bucket says what is."""
    seed()
    name = "model-00002-of-00002.safetensors"
    machine.google.put(f"{URI}/{name}", b"x" * 300_000)
    (machine.google.buckets / URI.removeprefix("gs://") / f"{name}.meta").unlink()

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
    assert last_line(result).startswith(
        f"{name} came twice with another content than the hub's hash"
    )
    assert "manifest.json" not in in_bucket(machine)
    assert name not in in_bucket(machine)


SECRET = "projects/p/secrets/hf"
VERSION = "gcloud secrets versions add hf --project p --data-file=-"
CREATE = "gcloud secrets create mayfly-hf-token --data-file=-"


@pytest.mark.parametrize(
    ("gated", "token", "lines"),
    [
        (True, None, [f"is gated and there is no token. Accept its licence at {PAGE}", CREATE]),
        (True, "", [f"is gated and there is no token. Accept its licence at {PAGE}", VERSION]),
        (True, "hf_stranger", [f"may not read it (the hub: Access to model {MODEL}", PAGE]),
        (True, "hf_revoked", [f"the hub refuses the token in {SECRET}", VERSION]),
        (False, "hf_revoked", [f"the hub refuses the token in {SECRET}", VERSION]),
    ],
)
def test_seed_says_which_token_it_needs_when_the_hub_wants_another(
    seed, machine, hub, gated, token, lines
):
    """None, a wrong one and one without the right are three different mornings."""
    hub.repos[MODEL].gated = gated
    if token:
        machine.google.secrets[SECRET] = f"{token}\n"

    result = seed(MAYFLY_HF_TOKEN_SECRET="" if token is None else SECRET)

    assert result.returncode == 1
    for line in lines:
        assert line in last_line(result)
    assert not stored(machine)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"MAYFLY_MODEL": "example/none"}, "the hub shows no model example/none: there is none, "),
        ({"MAYFLY_REVISION": "f" * 40}, f"has no revision {'f' * 40}. Correct `revision` in pro"),
        ({"MAYFLY_REVISION": "main"}, f"main is commit {COMMIT}: the weights could change"),
        ({"MAYFLY_DISK_GB": "0.0002"}, "no room: the largest file has 0.0 GB"),
        ({"MAYFLY_HF_TOKEN_SECRET": "projects/p/secrets/forbidden"}, "could not read the hub's t"),
    ],
)
def test_seed_says_what_to_do_when_it_cannot_go_on(seed, machine, settings, line):
    """Each is a first evening lost, when it comes as a trace."""
    machine.google.faults["forbidden"] = [403]

    result = seed(**settings)

    assert result.returncode == 1
    assert line in last_line(result)
    assert "kimi-k2.5" in last_line(result) or "pulumi up" in last_line(result)


def test_seed_opens_a_gated_model_when_the_secret_holds_a_token(seed, machine, hub):
    """The token comes by the machine's own rights, and is never seen."""
    hub.repos[MODEL].gated = True
    machine.google.secrets[SECRET] = "hf_good\n"

    result = seed(MAYFLY_HF_TOKEN_SECRET=SECRET)

    assert result.returncode == 0, result.stdout
    assert "hf_good" not in result.stdout + result.stderr


@pytest.mark.parametrize("trouble", [hubs.too_many(1), hubs.broken(503)])
def test_seed_waits_as_it_is_told_when_the_hub_is_busy(seed, machine, hub, trouble):
    """A rate limit half way through 595 GB is no reason to fail, nor to be silent."""
    hub.troubles += [trouble] * 2

    result = seed()

    assert result.returncode == 0, result.stdout
    said = f"the hub answers {trouble.status}; waiting 1 s, as it is told"
    assert said in result.stdout
    assert any(said in value for key, value in machine.google.published if key == "message")


def test_seed_waits_when_the_hub_limits_in_the_middle_of_it(seed, machine, hub):
    """Not only its first question may come at the wrong moment."""

    def limit(call: str) -> None:
        if "/cdn/" in call and not hub.troubles:
            hub.hook = lambda call: None
            hub.troubles.append(hubs.too_many(1))

    hub.hook = limit

    result = seed()

    assert result.returncode == 0, result.stdout
    assert "waiting 1 s" in result.stdout
    assert {name: in_bucket(machine)[name] for name in FILES} == FILES


def test_seed_gives_up_when_the_hub_asks_for_more_patience_than_it_has(seed, hub):
    """A VM that waits for a day costs more than a second command."""
    hub.troubles.append(hubs.too_many(7200))

    result = seed()

    assert result.returncode == 1
    assert "the hub answers 429 and wants 7200 s more after 0 s" in last_line(result)
    assert "mayfly seed kimi-k2.5" in last_line(result)


@pytest.fixture
def _own_client():
    """The hub's client is one a process; afterwards it is the library's own again."""
    yield
    set_client_factory(default_client_factory)


@pytest.mark.usefixtures("_own_client")
def test_seed_gives_up_when_the_hub_stays_broken(machine, hub, monkeypatch):
    """Its patience has an end, and the end a message."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.troubles += [hubs.broken(502)] * 99
    slept: list[float] = []
    told: list[str] = []
    job = Job(MODEL, COMMIT, URI, False, "", 1, 1, machine.root)

    with pytest.raises(SeedError, match="the hub answers 502 and wants 60 s more after"):
        Hub(job, told.append, slept.append).patiently(
            lambda: HfApi(endpoint=hub.url).model_info(MODEL)
        )

    assert slept[:3] == [1, 2, 4]
    assert 840 < sum(slept) <= 900
    assert told[0] == "the hub answers 502; waiting 1 s, as it is told"


def google_says(machine, status: int, reason: str, message: str, times: int = 1) -> None:
    """What Cloud Storage answers to the next uploads."""
    answer = (status, google_error(status, reason, message))
    machine.google.faults["/upload/storage/"] = [answer] * times


@pytest.mark.parametrize(
    ("status", "reason", "message", "line"),
    [
        (403, "forbidden", DENIED, "has no right to write to w (403 forbidden: seeder@p"),
        (403, "quotaExceeded", "The quota is used up.", "takes no more into w for now (403 quota"),
        (403, "accountDisabled", ABSENT, "billing is off for the project of bucket w (403 acc"),
        (404, "notFound", "The specified bucket does not exist.", "there is no bucket w (404 not"),
        (400, "invalid", "Invalid object name", "Cloud Storage refuses gs://w/models/example--m"),
    ],
)
def test_seed_says_why_when_the_bucket_refuses(seed, machine, status, reason, message, line):
    """Google's 403 has many meanings; its status decides nothing."""
    google_says(machine, status, reason, message, times=9)

    result = seed()

    assert result.returncode == 1
    assert line in last_line(result)
    assert "pulumi up" in last_line(result) or "mayfly seed kimi-k2.5" in last_line(result)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(503, "backendError"), (429, "rateLimitExceeded"), (403, "rateLimitExceeded")],
)
def test_seed_goes_on_when_the_bucket_is_busy_for_a_moment(seed, machine, status, reason):
    """One 503 in 80 uploads is a normal day."""
    google_says(machine, status, reason, "Too many requests.")

    result = seed()

    assert result.returncode == 0, result.stdout
    assert f"{status} Too many requests.; again in 1 s" in result.stdout


def test_upload_gives_up_when_the_quota_stays_full(machine, monkeypatch):
    """A project's write quota does not refill by waiting a minute."""
    google_says(machine, 429, "rateLimitExceeded", "The project exceeded its quota.", times=99)
    slept: list[float] = []

    with pytest.raises(SeedError, match=r"takes no more into w for now \(429 rateLimit"):
        store(b"x", f"{URI}/x", {}, sleep=slept.append)

    assert slept == [1, 2, 4, 8, 16]


def test_upload_is_refused_when_the_bytes_change_on_the_way(machine, tmp_path):
    """A disk or a network that flips a bit must not put it into the bucket."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    machine.google.hook = lambda call: file.write_bytes(b"y") and None  # once it was announced

    with pytest.raises(SeedError, match="Provided MD5 hash"):
        store(file, f"{URI}/x", {})

    assert in_bucket(machine) == {}


def test_seed_says_so_when_the_disk_is_full(start_seed, machine):
    """What else lies on the disk, nobody knows before."""
    work = machine.root / "var/cache/mayfly/hub"
    work.mkdir(parents=True)
    # A disk of its own, with room for the bytes and for three files.
    with start_seed(f"mount -t tmpfs -o size=8m,nr_inodes=4 tmpfs {work}") as process:
        out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "the disk is full. Raise seeding.disk_gb" in out.splitlines()[-1], out + err


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
    assert stored(machine=uv, below="engines/e1/")[-1] == "manifest.json"


def test_pack_loses_nothing_when_a_folder_goes_through_it(tmp_path):
    """Links, modes, times and empty folders: byte code is only good for the source's own time."""
    tree = tmp_path / "there/engine"
    (tree / "lib/empty").mkdir(parents=True)
    (tree / "bin").mkdir()
    for number in range(40):
        (tree / f"lib/module{number}.py").write_bytes(b"x" * number * 100)
    (tree / "bin/run").write_text("#!/bin/sh\n")
    (tree / "bin/run").chmod(0o755)
    os.utime(tree / "bin/run", (1_600_000_000, 1_600_000_000))
    (tree / "bin/-odd name").write_text("a name that looks like an option")
    (tree / "bin/again").symlink_to("run")
    (tree / "lib64").symlink_to("lib")
    (tmp_path / "here").mkdir()

    seed_pack.pack(tree, tmp_path / "out", parts=4)

    archives = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in archives] == [f"env-0{n}.tar.gz" for n in range(4)]
    for path in archives:
        subprocess.run(["tar", "-C", tmp_path / "here", "-xzf", path], check=True)
    assert listing(tmp_path / "here/engine") == listing(tree)


def listing(tree: Path) -> dict[str, tuple[object, ...]]:
    """What a tree holds: mode, time and content of files, the ends of links, folders."""
    found: dict[str, tuple[object, ...]] = {}
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder",)
        else:
            found[name] = (path.stat().st_mode, int(path.stat().st_mtime), path.read_bytes())
    return found


def test_pack_makes_piles_of_one_size_when_files_differ():
    """A node waits for the largest archive."""
    sizes = [900, 500, 400, 300, 200, 100, 100, 100, 100, 100]
    entries = [(size * 1_000_000, str(number)) for number, size in enumerate(sizes)]

    piles = seed_pack.split(entries, 4)

    found = [sum(sizes[int(path)] for path in pile) for pile in piles]
    assert sum(found) == sum(sizes)
    assert max(found) == 900
    assert min(found) >= 600


def test_engine_seed_says_why_when_the_bucket_takes_nothing(uv, run_stage):
    """The same words as for the weights, not gsutil's last line."""
    google_says(uv, 403, "forbidden", DENIED, times=99)

    assert run_stage("seed-engine.sh").returncode == 1

    assert "the seeder has no right to write to w (403 forbidden" in uv.why("seed-engine")
    assert "pulumi up --stack foundation" in uv.why("seed-engine")


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


@pytest.mark.parametrize(
    ("damage", "fetched"),
    [(None, 1), ("utils gone", 2), ("fabric manager changed", 2), ("manifest cut off", 2)],
)
def test_driver_seed_fills_the_folder_anew_when_it_is_not_what_its_manifest_says(
    machine, run_stage, damage, fetched
):
    """A node that finds a damaged package says "run: mayfly seed": then that must help."""
    debs(machine, "580.159.04")
    assert run_stage("seed-driver.sh").returncode == 0
    folder = machine.google.buckets / "w/drivers/580"
    if damage == "utils gone":
        next(folder.glob("nvidia-utils-*.deb")).unlink()
    elif damage == "fabric manager changed":
        next(folder.glob("nvidia-fabric*.deb")).write_text("y\n")
    elif damage:
        (folder / "manifest.json").write_text('{"format":')

    result = run_stage("seed-driver.sh")

    assert result.returncode == 0, result.stderr
    assert sum("--download-only" in call for call in machine.calls("apt-get")) == fetched
    assert {p.read_text() for p in folder.glob("*.deb")} == {"x\n"}
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 2


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
