"""The engine: five gigabytes of code, brought once and only as it was built."""

import io
import tarfile

import pytest

from tests.fake_google import manifest_of

URI = "gs://w/engines/e1"


def environment_archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(f"mayfly-engine/{name}")
            entry.mode, entry.size = 0o755, 2
            tar.addfile(entry, io.BytesIO(b"#!"))
    return buffer.getvalue()


@pytest.fixture
def engine(machine):
    archives = {
        "env-00.tar.gz": environment_archive("env/bin/vllm", "python/bin/python3"),
        "env-01.tar.gz": environment_archive("env/bin/helper", "python/bin/pip"),
    }
    for name, data in archives.items():
        machine.google.put(f"{URI}/{name}", data)
    machine.google.put(f"{URI}/manifest.json", manifest_of(archives))
    return machine


def test_engine_stage_unpacks_the_environment_once_when_it_runs_twice(engine, run_stage):
    """5 GB again at each boot would be half a minute of eight GPUs."""
    assert run_stage("40-engine.sh").returncode == 0
    for name in ("env/bin/vllm", "python/bin/python3", "env/bin/helper", "python/bin/pip"):
        assert (engine.root / "opt/mayfly-engine" / name).exists()

    result = run_stage("40-engine.sh")

    assert "already in" in result.stderr
    assert len(engine.calls("gcloud", "gsutil")) == 1


def test_engine_stage_unpacks_again_when_two_tars_were_in_each_others_way(engine, run_stage, stub):
    """Seen on a busy machine: a tar gave up a file whose folder another tar was just making."""
    once = engine.root / "once"
    said = "env/bin/vllm: Cannot open: No such file or directory"
    stub("tar", body=f'mkdir "{once}" && {{ echo "{said}" >&2; exit 2; }}; exec /bin/tar "$@"')

    result = run_stage("40-engine.sh")

    assert result.returncode == 0, result.stderr
    assert said in result.stderr
    for name in ("env/bin/vllm", "python/bin/python3", "env/bin/helper", "python/bin/pip"):
        assert (engine.root / "opt/mayfly-engine" / name).exists()


def test_engine_stage_takes_gsutil_when_gcloud_fails(engine, run_stage, stub):
    """One of the two is broken on some image, some day."""
    stub("gcloud", body="echo 'ERROR: gcloud crashed'", exit_status=1)

    result = run_stage("40-engine.sh")

    assert result.returncode == 0, result.stderr
    assert "gcloud storage: ERROR: gcloud crashed" in result.stdout
    assert (engine.root / "opt/mayfly-engine/env/bin/vllm").exists()


def test_engine_stage_says_so_when_nothing_brings_it(engine, run_stage, stub):
    """Four tries of both, then words."""
    stub("gcloud", exit_status=1)
    stub("gsutil", exit_status=1)

    assert run_stage("40-engine.sh").returncode == 1

    assert f"could not pull the engine from {URI}" in engine.why("40-engine")
    assert len(engine.calls("gsutil")) == 4


def test_engine_stage_refuses_an_archive_when_its_sha256_is_not_the_manifests(engine, run_stage):
    """It is code, and it would see the key."""
    engine.google.put(f"{URI}/env-01.tar.gz", environment_archive("env/bin/vllm", "evil"))

    result = run_stage("40-engine.sh")

    assert result.returncode == 1
    assert "is not what its manifest says" in engine.why("40-engine")
    assert not (engine.root / "opt/mayfly-engine").exists()


def test_engine_stage_leaves_no_engine_when_an_archive_is_torn(engine, run_stage):
    """One of 32 that fails must not be lost among 31 that do not."""
    torn = environment_archive("env/bin/helper")[:60]
    engine.google.put(f"{URI}/env-01.tar.gz", torn)
    good = {"env-00.tar.gz": engine.google.read(f"{URI}/env-00.tar.gz"), "env-01.tar.gz": torn}
    engine.google.put(f"{URI}/manifest.json", manifest_of(good))

    assert run_stage("40-engine.sh").returncode == 1

    assert "could not unpack the engine" in engine.why("40-engine")
    assert not (engine.root / "opt/mayfly-engine/.complete").exists()


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (None, f"there is no engine at {URI}; run: mayfly seed kimi-k2.5"),
        ({"other.txt": b"x"}, "names no env-<n>.tar.gz"),
        ("{}", f"bad {URI}/manifest.json; run: mayfly seed kimi-k2.5"),
    ],
)
def test_engine_stage_names_the_command_when_there_is_no_engine(machine, run_stage, files, line):
    """Seeding builds it; the node cannot."""
    if files:
        text = files if isinstance(files, str) else manifest_of(files)
        machine.google.put(f"{URI}/manifest.json", text)

    assert run_stage("40-engine.sh").returncode == 1
    assert line in machine.why("40-engine")
