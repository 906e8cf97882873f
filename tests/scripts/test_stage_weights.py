"""Weights: what is not exactly what was seeded must never be served."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from startup import manifest, pull, pull_large
from tests.fake_google import GENERATION, manifest_of

URI = "gs://w/models/kimi/abc"
STUB = Path(__file__).with_name("gsutil_stub.py")
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"1" * 5000,
    "model-00002-of-00002.safetensors": b"2" * 6000,
    "figures/demo.png": b"png",
}


@pytest.fixture
def seeded(machine):
    for name, data in FILES.items():
        machine.google.put(f"{URI}/{name}", data)
    machine.google.put(f"{URI}/manifest.json", manifest_of(FILES))
    machine.write("run/mayfly/weights-manifest.json", manifest_of(FILES))
    return machine


def pulled(machine):
    folder = machine.root / "mnt/mayfly/weights"
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".complete"
    }


def wait_until(condition):
    """Half a minute at most, which a busy machine may need."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def alive(pid):
    """Whether that process is more than a corpse."""
    try:
        state = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


SHARDS = [name for name in sorted(FILES) if name.endswith(".safetensors")]


def test_weights_stage_leaves_exactly_the_manifest_when_all_is_well(seeded, run_stage):
    """The marker is what the next boot trusts, so it names the address it stands for."""
    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert pulled(seeded) == FILES
    assert seeded.read("mnt/mayfly/weights/.complete") == f"{URI}\n"
    assert seeded.read("run/mayfly/bytes/30-weights") == "11005"
    assert not (seeded.root / "mnt/mayfly/arriving").exists()


def test_weights_stage_leaves_all_readable_when_its_own_mask_is_strict(seeded, run_stage):
    """The engine runs as a user that exists only while it runs."""
    for name in ("gcloud", "python3"):
        program = {"gcloud": f"{sys.executable} {STUB} gcloud", "python3": sys.executable}[name]
        seeded.stub(name, body=f'umask 077; exec {program} "$@"')

    assert run_stage("30-weights.sh").returncode == 0

    room = seeded.root / "mnt/mayfly"
    for path in [room / "weights.json", *(room / "weights").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_weights_stage_asks_for_what_was_listed_in_the_order_of_names_when_it_pulls(
    seeded, run_stage, stub
):
    """The generation holds what arrives to the listing, the listing is held to the manifest."""
    stub("gcloud", body=f'tee -a {seeded.root}/asked | {sys.executable} {STUB} gcloud "$@"; exit')

    assert run_stage("30-weights.sh").returncode == 0

    asked = (seeded.root / "asked").read_text().split()
    assert asked == [f"{URI}/{name}#{GENERATION}" for name in SHARDS]


def test_weights_stage_pulls_nothing_when_they_are_there(seeded, run_stage):
    """The startup script runs at every boot."""
    assert run_stage("30-weights.sh").returncode == 0
    before = len(seeded.calls("gcloud"))

    result = run_stage("30-weights.sh")

    assert "already in" in result.stderr
    assert len(seeded.calls("gcloud")) == before


@pytest.mark.parametrize("said", ["ERROR: gcloud crashed (ImportError)", ""])
def test_weights_stage_goes_on_with_gsutil_when_gcloud_brings_nothing(
    seeded, run_stage, stub, said
):
    """The one that is fast must not be the one that everything hangs on."""
    stub("gcloud", body=f"echo '{said}'", exit_status=1)

    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"gcloud storage left 2 files: {said}" in result.stdout
    assert pulled(seeded) == FILES
    assert len(seeded.calls("gsutil")) == 1


def test_weights_stage_fails_when_every_pull_fails(seeded, run_stage, stub):
    """A quiet success would start the server on an empty disk, at GPU prices."""
    stub("gcloud", exit_status=1)
    stub("gsutil", exit_status=1)

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert "try 5 of 5" in result.stderr
    assert seeded.why("30-weights").startswith(f"could not pull the weights from {URI}; see /")
    assert seeded.calls("sleep") == ["sleep 5", "sleep 10", "sleep 20", "sleep 40"]
    assert not (seeded.root / "mnt/mayfly/weights/.complete").exists()


def test_weights_stage_fails_when_a_puller_says_done_and_is_not(seeded, run_stage, stub):
    """An exit status of 0 is a claim; the files are what counts."""
    stub("gcloud")
    stub("gsutil")

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert f"2 files did not arrive, the first is {SHARDS[0]}" in result.stdout


def test_weights_stage_takes_no_file_when_it_is_not_whole(seeded, run_stage, stub):
    """vLLM maps whatever has a shard's name."""
    half = f'head -c 100 /dev/zero >"${{@: -1}}{SHARDS[0]}"; exit 0'
    stub("gcloud", body=half)
    stub("gsutil", exit_status=1)

    run_stage("30-weights.sh")

    assert SHARDS[0] not in pulled(seeded)


def test_weights_stage_goes_on_where_it_stopped_when_a_pull_breaks(seeded, run_stage, stub):
    """554 GiB again for one dropped connection would cost minutes of eight GPUs."""
    bring_first = f'cp {seeded.google.buckets}/w/models/kimi/abc/{SHARDS[0]} "${{@: -1}}"'
    stub(
        "gcloud",
        body=f"""n=$(($(cat {seeded.root}/n 2>/dev/null || echo 0) + 1)); echo $n >{seeded.root}/n
if ((n == 1)); then {bring_first}; echo dropped; exit 1; fi
tee {seeded.root}/asked | {sys.executable} {STUB} gcloud "$@"; exit""",
    )

    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert (seeded.root / "asked").read_text() == f"{URI}/{SHARDS[1]}#{GENERATION}\n"
    assert seeded.calls("gsutil") == []  # gcloud works: what broke has passed
    assert pulled(seeded) == FILES


def test_weights_stage_gives_gcloud_no_half_file_when_an_earlier_pull_was_killed(
    seeded, run_stage, stub
):
    """gcloud goes on in the wrong place of one, and the sum would be wrong: twice, the end."""
    assert run_stage("30-config.sh").returncode == 0
    seeded.write(f"mnt/mayfly/arriving/{SHARDS[1]}_.gstmp", b"2" * 3000)
    stub(
        "gcloud",
        body=f'ls "${{@: -1}}" >{seeded.root}/seen; exec {sys.executable} {STUB} gcloud "$@"',
    )

    assert run_stage("30-weights.sh").returncode == 0

    assert (seeded.root / "seen").read_text() == ""
    assert pulled(seeded) == FILES


def test_weights_stage_shows_a_shard_when_it_is_whole_and_others_still_come(
    seeded, run_stage, stub
):
    """The engine loads the first shards while the last are on their way."""
    first = seeded.root / "mnt/mayfly/weights" / SHARDS[0]
    source = f"{seeded.google.buckets}/w/models/kimi/abc"
    stub(
        "gcloud",
        body=f"""cp {source}/{SHARDS[0]} "${{@: -1}}"
for i in {{1..200}}; do if [ -f {first} ]; then break; fi; /bin/sleep 0.1; done
[ -f {first} ] && cp {source}/{SHARDS[1]} "${{@: -1}}"; exit""",
    )

    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert seeded.calls("gsutil") == []


def test_weights_stage_pulls_a_file_again_when_it_arrived_corrupted(seeded, run_stage):
    """One flipped bit in 595 GB is a model that talks nonsense."""
    seeded.corrupt.write_text(f"{SHARDS[1]} 1")

    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"pulling again: {SHARDS[1]}" in result.stdout
    assert pulled(seeded) == FILES


@pytest.mark.parametrize("broken", [[], ["gcloud"]])
def test_weights_stage_stops_with_the_name_when_a_file_is_wrong_twice(
    seeded, run_stage, stub, broken
):
    """Twice the same is no accident; the user must know which file to seed again."""
    for name in broken:
        stub(name, exit_status=1)
    seeded.corrupt.write_text(f"{SHARDS[1]} 2")

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert seeded.why("30-weights") == (
        f"wrong content twice in a row: {SHARDS[1]}; run: mayfly seed kimi-k2.5\n"
    )
    assert not (seeded.root / "mnt/mayfly/weights/.complete").exists()


def test_config_stage_stops_with_the_name_when_a_small_file_is_wrong_twice(seeded, run_stage):
    """A tokenizer of the right length and the wrong content breaks in ways nobody can read."""
    text = manifest_of(FILES)
    digest = hashlib.sha256(FILES["config.json"]).hexdigest()
    seeded.write("run/mayfly/weights-manifest.json", text.replace(digest, "0" * 64))

    result = run_stage("30-config.sh")

    assert result.returncode == 1
    assert "not what the manifest says, pulling again: config.json" in result.stdout
    assert seeded.why("30-config") == (
        "wrong content twice in a row: config.json; run: mayfly seed kimi-k2.5\n"
    )
    assert "config.json" not in pulled(seeded)


def test_weights_stage_drops_what_lies_there_when_it_is_of_other_weights(seeded, run_stage):
    """A disk keeps them over a reboot; files of the same size would pass for the new ones."""
    seeded.write(f"mnt/mayfly/weights/{SHARDS[0]}", b"9" * 5000)
    seeded.write("mnt/mayfly/weights/of-old.json", b"{}")
    seeded.write("mnt/mayfly/weights.json", "another manifest")

    assert run_stage("30-weights.sh").returncode == 0

    assert pulled(seeded) == FILES


def test_weights_stage_waits_when_a_reboot_is_planned(seeded, stub):
    """RAM does not outlive it: each byte until then would be pulled in vain."""
    marker, pid = seeded.root / "run/mayfly/reboot-planned", seeded.root / "pid"
    stub(
        "gcloud",
        body=f"""if [ ! -f {pid} ]; then echo $$ >{pid}; touch {marker}; exec /bin/sleep 60; fi
exec {sys.executable} {STUB} gcloud "$@" """,
    )
    with seeded.start("30-weights.sh") as process:
        wait_until(lambda: pid.exists() and pid.read_text().strip() and not alive(pid.read_text()))
        assert pulled(seeded).keys() == FILES.keys() - set(SHARDS)

        marker.unlink()
        said, _ = process.communicate(timeout=60)

    assert process.returncode == 0, said
    assert "waiting: the machine will reboot" in said
    assert len(seeded.calls("gcloud")) == 2
    assert pulled(seeded) == FILES


def test_weights_stage_leaves_no_puller_behind_when_it_is_ended(seeded, stub):
    """It would go on filling the RAM that the next try wants."""
    pid = seeded.root / "pid"
    stub("gcloud", body=f"(echo $BASHPID >{pid}; exec /bin/sleep 60)")
    with seeded.start("30-weights.sh") as process:
        wait_until(lambda: pid.exists() and pid.read_text().strip())

        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)

    wait_until(lambda: not alive(pid.read_text()))


def test_puller_is_given_up_when_it_brings_nothing(seeded, monkeypatch, stub):
    """A connection that hangs must not hold eight GPUs until the stage's limit."""
    stub("gcloud", body="exec /bin/sleep 60")
    for name, value in seeded.environment(MAYFLY_STAGE="weights").items():
        monkeypatch.setenv(name, value)
    files = [file for file in manifest.parse(manifest_of(FILES)) if pull_large.is_shard(file)]
    room = seeded.root / "mnt/mayfly"
    place = pull_large.Place(URI, room, {file.name: GENERATION for file in files})
    pull.prepare(room, manifest_of(FILES))
    (seeded.root / "var/log/mayfly").mkdir(parents=True)

    pull_large.Large(place, files, lambda _: None, stall_s=0.5).run()

    assert sorted(pulled(seeded)) == SHARDS
    assert len(seeded.calls("gsutil")) == 1


@pytest.mark.parametrize(
    ("rate", "left", "line"),
    [
        (310e6, 74.4e9, "12 of 64 shards, 310 MB/s, 4 min left"),
        (310e6, 12.4e9, "12 of 64 shards, 310 MB/s, 40 s left"),
        (0, 12.4e9, "12 of 64 shards, 0 MB/s"),
        (310e6, -1, "12 of 64 shards, 310 MB/s, 0 s left"),
    ],
)
def test_progress_says_how_long_when_bytes_arrive(rate, left, line):
    """Somebody looks at this line for a minute and more, at 88 dollars an hour."""
    assert pull_large.progress_line("12 of 64", rate, left) == line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (b"2" * 5999, "has 5999 bytes, the manifest says 6000"),
        (b"3" * 6000, "has crc32c"),
        (None, "is missing"),
    ],
)
def test_weights_stage_refuses_before_the_first_byte_when_the_bucket_has_changed(
    seeded, run_stage, change, line
):
    """The listing tells it in a second; the pull would tell it after minutes."""
    uri = f"{URI}/model-00002-of-00002.safetensors"
    if change is None:
        (seeded.google.buckets / uri.removeprefix("gs://")).unlink()
    else:
        seeded.google.put(uri, change)

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert line in seeded.why("30-weights")
    assert seeded.calls("gcloud", "gsutil") == []


def test_weights_stage_says_which_setting_is_missing_when_there_is_no_address(seeded, run_stage):
    """An empty address must not become a pull of a whole bucket."""
    result = run_stage("30-weights.sh", MAYFLY_WEIGHTS_URI="")

    assert result.returncode != 0
    assert "stage 30 needs the gs:// address of the weights" in result.stderr


def test_ram_stage_mounts_room_for_the_weights_when_ram_has_it(seeded, run_stage, stub):
    """tmpfs takes half of RAM by default: too little on a2-ultra, and more than the rest leaves."""
    stub("mount")

    result = run_stage("05-ram.sh")

    assert result.returncode == 0, result.stderr
    (call,) = seeded.calls("mount")
    assert call.startswith("mount -t tmpfs -o size=65547k,mode=0755 mayfly ")
    assert seeded.read("run/mayfly/weights-manifest.json") == manifest_of(FILES)


def test_ram_stage_takes_the_disk_when_ram_is_too_small(seeded, run_stage, stub):
    """Slower, but it serves; the log says so."""
    stub("mount")
    seeded.write("proc/meminfo", "MemAvailable: 10 kB\n")
    stub("df", body="printf 'Avail\\n9000000\\n'")

    result = run_stage("05-ram.sh")

    assert result.returncode == 0, result.stderr
    assert "go to the disk" in result.stderr
    assert seeded.calls("mount") == []


def test_ram_stage_fails_before_the_first_byte_when_there_is_no_room(seeded, run_stage, stub):
    """To learn it after an eight-minute pull is eight minutes of eight GPUs."""
    seeded.write("proc/meminfo", "MemAvailable: 10 kB\n")
    stub("df", body="printf 'Avail\\n2000000\\n'")

    result = run_stage("05-ram.sh")

    assert result.returncode == 1
    assert seeded.why("05-ram").startswith("no room for 0 GiB of weights: 0 GiB free in RAM, 1 GiB")
    assert seeded.calls("gsutil") == []


def test_ram_stage_names_the_command_when_nothing_was_seeded(machine, run_stage):
    """The manifest comes last, so without one the weights are not whole."""
    result = run_stage("05-ram.sh")

    assert result.returncode == 1
    assert machine.why("05-ram") == f"no complete weights at {URI}; run: mayfly seed kimi-k2.5\n"


def test_ram_stage_names_the_right_when_the_bucket_refuses(seeded, run_stage):
    """403 has another remedy than 404."""
    seeded.google.faults["manifest.json"] = [403]

    run_stage("05-ram.sh")

    assert "may not read" in seeded.why("05-ram")


def test_ram_stage_tries_again_when_storage_stumbles(seeded, run_stage, stub):
    """A 503 at Google is no reason to give back eight GPUs."""
    stub("mount")
    seeded.google.faults["manifest.json"] = [503]

    assert run_stage("05-ram.sh").returncode == 0


def test_ram_stage_refuses_a_manifest_when_a_name_leaves_its_folder(seeded, run_stage):
    """Whoever can write the bucket must not be able to write /etc."""
    seeded.google.put(f"{URI}/manifest.json", manifest_of({"../../etc/passwd": b"x"}))

    result = run_stage("05-ram.sh")

    assert result.returncode == 1
    assert "cannot use the entry of '../../etc/passwd'" in result.stderr


def test_config_stage_leaves_the_small_files_when_the_shards_are_to_come(seeded, run_stage):
    """The engine starts on these while minutes of shards still arrive."""
    result = run_stage("30-config.sh")

    assert result.returncode == 0, result.stderr
    assert sorted(pulled(seeded)) == ["config.json", "figures/demo.png"]
    assert seeded.read("mnt/mayfly/weights.json") == manifest_of(FILES)
