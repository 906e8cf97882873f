"""Weights: what is not exactly what was seeded must never be served."""

import sys

import pytest

from tests.fake_google import manifest_of

URI = "gs://w/models/kimi/abc"
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


def test_weights_stage_leaves_exactly_the_manifest_when_all_is_well(seeded, run_stage):
    """The marker is what the next boot trusts, so it names the address it stands for."""
    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stderr
    assert pulled(seeded) == FILES
    assert seeded.read("mnt/mayfly/weights/.complete") == f"{URI}\n"
    assert seeded.read("run/mayfly/bytes/30-weights") == "11005\n"


def test_weights_stage_pulls_nothing_when_they_are_there(seeded, run_stage):
    """The startup script runs at every boot."""
    assert run_stage("30-weights.sh").returncode == 0
    before = len(seeded.calls("gsutil"))

    result = run_stage("30-weights.sh")

    assert "already in" in result.stderr
    assert len(seeded.calls("gsutil")) == before


def test_weights_stage_fails_when_every_pull_fails(seeded, run_stage, stub):
    """A quiet success would start the server on an empty disk, at GPU prices."""
    stub("gsutil", exit_status=1)

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert "try 5 of 5" in result.stderr
    assert seeded.why("30-weights").startswith(f"could not pull the weights from {URI}; see /")
    assert seeded.calls("sleep") == ["sleep 5", "sleep 10", "sleep 20", "sleep 40"]


def test_weights_stage_fails_when_the_check_itself_breaks(seeded, run_stage, stub):
    """A check that could not run has found nothing wrong; that must not pass for a good one."""
    body = f'case "$*" in *" wrong "*) exit 3 ;; esac; exec {sys.executable} "$@"'
    stub("python3", body=body)

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert "could not check the weights against their manifest (exit 3)" in seeded.why("30-weights")
    assert not (seeded.root / "mnt/mayfly/weights/.complete").exists()


def test_weights_stage_goes_on_where_it_stopped_when_a_pull_breaks(seeded, run_stage, stub):
    """554 GiB again for one dropped connection would cost minutes of eight GPUs."""
    seeded.write("mnt/mayfly/weights/model-00001-of-00002.safetensors", b"1" * 5000)
    seeded.write("mnt/mayfly/weights/model-00002-of-00002.safetensors_.gstmp", b"2" * 100)
    count = seeded.root / "pulled"
    stub("gsutil", body=f"cat >>{count}; exec false")

    run_stage("30-weights.sh")

    asked = set(count.read_text().split())
    assert f"{URI}/model-00002-of-00002.safetensors" in asked
    assert f"{URI}/model-00001-of-00002.safetensors" not in asked


def test_weights_stage_pulls_a_file_again_when_it_arrived_corrupted(seeded, run_stage):
    """One flipped bit in 595 GB is a model that talks nonsense."""
    seeded.corrupt.write_text("model-00002-of-00002.safetensors 1")

    result = run_stage("30-weights.sh")

    assert result.returncode == 0, result.stderr
    assert "pulling again: model-00002-of-00002.safetensors" in result.stderr
    assert pulled(seeded) == FILES


def test_weights_stage_stops_with_the_name_when_a_file_is_wrong_twice(seeded, run_stage):
    """Twice the same is no accident; the user must know which file to seed again."""
    seeded.corrupt.write_text("model-00002-of-00002.safetensors 2")

    result = run_stage("30-weights.sh")

    assert result.returncode == 1
    assert seeded.why("30-weights") == (
        "wrong content twice in a row: model-00002-of-00002.safetensors; "
        "run: mayfly seed kimi-k2.5\n"
    )
    assert not (seeded.root / "mnt/mayfly/weights/.complete").exists()


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
    assert seeded.calls("gsutil") == []


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
