"""Kernel caches: two minutes of a start where they fit, and never in its way where they do not."""

import json
import os
import tarfile

import pytest

from startup import caches
from tests.fake_google import manifest_of
from tests.scripts.test_caches_archive import archive_of

ON = {"MAYFLY_KERNEL_CACHES": "1"}
GPUS = "NVIDIA H100 80GB HBM3, 580.159.04\n" * 8
FOLDER = "gs://c/kernels/e1/nvidia-h100-80gb-hbm3/580.159.04"


@pytest.fixture
def node(machine):
    machine.write("said-by-nvidia-smi", GPUS)
    machine.stub("nvidia-smi", body=f"cat {machine.root}/said-by-nvidia-smi")
    return machine


def compiled(node):
    """What a first start leaves."""
    kernel = node.write("var/cache/mayfly-vllm/triton/AB/kernel.cubin", b"\x7fELF" * 100)
    kernel.chmod(0o700)
    os.utime(kernel, (1_700_000_000.5, 1_700_000_000.5))
    node.write("var/cache/mayfly-vllm/vllm/torch_compile_cache/h/rank_0_0/model", "graph")
    node.write("var/cache/mayfly-vllm/.cache/flashinfer/0.6/90a/.ninja_log", "log of ninja")
    return node.root / "var/cache/mayfly-vllm"


def tree(folder):
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def bucket(node):
    found = [p for p in node.google.buckets.rglob("*") if p.is_file()]
    return sorted(str(p.relative_to(node.google.buckets)) for p in found)


def offer(node, data, name="caches-0.tar.gz"):
    """Put an archive where this node will look for it."""
    uri = caches.uri()
    node.google.put(f"{uri}/{name}", data)
    node.google.put(f"{uri}/manifest.json", manifest_of({name: data}))


@pytest.fixture
def looks(node, monkeypatch):
    """`caches.uri` in this process asks the stub too."""
    monkeypatch.setenv("PATH", node.environment()["PATH"])
    return node


def test_caches_come_back_as_they_were_when_the_next_machine_is_alike(looks, run_stage):
    """The whole of it: 115 s of a start, measured on an H100."""
    folder = compiled(looks)
    saved = tree(folder)
    assert run_stage("70-save.sh", **ON).returncode == 0
    folder.rename(folder.with_name("old"))  # another machine's disk

    result = run_stage("35-caches.sh", **ON)

    assert result.returncode == 0, result.stderr
    assert tree(folder) == saved
    kernel = folder / "triton/AB/kernel.cubin"
    assert kernel.stat().st_mode & 0o777 == 0o755
    assert kernel.stat().st_mtime == 1_700_000_000
    assert int(looks.read("run/mayfly/bytes/35-caches")) > 0
    assert not (looks.root / "var/cache/mayfly/kernels").exists()


def test_archive_is_saved_before_its_manifest_and_holds_only_caches(looks, run_stage):
    """A manifest says that all is there; a lock of a dead process would stop the next one."""
    compiled(looks)
    for name in ("inductor/locks/x", "triton/AB/k.lock", "hf/modules/m.py", "vllm/jit.log"):
        looks.write(f"var/cache/mayfly-vllm/{name}", "x")
    looks.write("var/cache/mayfly-vllm/triton/tmp.pid_7_x/kernel.cubin", "half")

    result = run_stage("70-save.sh", **ON)

    assert result.returncode == 0, result.stderr
    uploads = [call for call in looks.calls("gsutil") if "if-generation-match:0" in call]
    assert len(uploads) == 2
    assert uploads[1].endswith("/manifest.json")
    name = bucket(looks)[0]
    with tarfile.open(looks.google.buckets / name) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [
        ".cache/flashinfer/0.6/90a/.ninja_log",
        "triton/AB/kernel.cubin",
        "vllm/torch_compile_cache/h/rank_0_0/model",
    ]
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
    assert not (looks.root / "var/cache/mayfly/saving").exists()


def test_second_node_saves_nothing_when_the_first_has(looks, run_stage):
    """A node may not overwrite; it need not try either."""
    compiled(looks)
    assert run_stage("70-save.sh", **ON).returncode == 0
    before = bucket(looks)
    looks.write("var/cache/mayfly-vllm/triton/CD/kernel.cubin", "another")

    result = run_stage("70-save.sh", **ON)

    assert "the bucket has kernel caches for this start" in result.stderr
    assert bucket(looks) == before


def test_save_is_done_when_another_node_was_quicker_in_the_middle(looks, run_stage):
    """Both looked, both found nothing, both save: the one refused has nothing to complain of."""
    compiled(looks)
    uri = caches.uri()
    assert run_stage("70-save.sh", **ON).returncode == 0
    theirs = looks.google.read(f"{uri}/manifest.json")
    looks.google.faults[f"{uri.removeprefix('gs://c/')}/manifest.json".replace("/", "%2F")] = [404]

    result = run_stage("70-save.sh", **ON)

    assert result.returncode == 0, result.stderr
    assert "412" in result.stderr
    assert looks.google.read(f"{uri}/manifest.json") == theirs


@pytest.mark.parametrize("script", ["35-caches.sh", "70-save.sh"])
def test_caches_are_left_alone_when_they_are_switched_off(node, run_stage, script):
    """Compiled kernels of another machine are code; who does not want that says so."""
    result = run_stage(script, MAYFLY_KERNEL_CACHES="")

    assert result.returncode == 0
    assert "kernel caches are switched off" in result.stderr
    assert node.calls() == []


def test_caches_are_not_saved_when_the_endpoint_fell_back(looks, run_stage):
    """They may be why the first mode failed its check."""
    compiled(looks)
    looks.write("run/mayfly/serve-flags", "[]")

    result = run_stage("70-save.sh", **ON)

    assert "not the mode that was asked for" in result.stderr
    assert bucket(looks) == []


@pytest.mark.parametrize(
    "change",
    [
        {"MAYFLY_ENGINE_URI": "gs://w/engines/e2"},
        {"MAYFLY_MODEL": "moonshotai/Kimi-K2.6"},
        {"MAYFLY_SERVE_FLAGS": '["--tensor-parallel-size=4"]'},
        {"gpus": "NVIDIA A100-SXM4-80GB, 580.159.04\n"},
        {"gpus": "NVIDIA H100 80GB HBM3, 580.200.01\n"},
    ],
    ids=["engine", "model", "flags", "gpu", "driver"],
)
def test_caches_are_not_taken_when_something_that_kernels_depend_on_differs(
    looks, run_stage, change
):
    """A kernel for another driver or GPU is at best useless."""
    folder = compiled(looks)
    assert run_stage("70-save.sh", **ON).returncode == 0
    folder.rename(folder.with_name("old"))
    if "gpus" in change:
        looks.write("said-by-nvidia-smi", change.pop("gpus"))

    result = run_stage("35-caches.sh", **ON, **change)

    assert result.returncode == 0
    assert "no kernel caches yet" in result.stderr
    assert not folder.exists()


def test_key_is_the_same_when_only_words_about_talking_differ(looks, monkeypatch):
    """A new tool parser must not cost everybody two minutes."""
    one = caches.uri()
    flags = ["--served-model-name=x", "--port", "9", "--tool-call-parser=kimi_k2"]
    monkeypatch.setenv("MAYFLY_SERVE_FLAGS", json.dumps([*flags, "--enable-auto-tool-choice"]))

    assert caches.uri() == one
    assert one.startswith(FOLDER)


GOOD = ({"name": "triton/k"}, b"kernel")
OUTSIDE = [
    ("a path upwards", ({"name": "../evil"}, b"x")),
    ("a path upwards inside", ({"name": "triton/../../evil"}, b"x")),
    ("an absolute path", ({"name": "/etc/cron.d/evil"}, b"x")),
    ("a symlink", ({"name": "out", "type": tarfile.SYMTYPE, "linkname": "/etc"}, b"")),
    ("a hard link", ({"name": "out", "type": tarfile.LNKTYPE, "linkname": "triton/k"}, b"")),
    ("a device", ({"name": "null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b"")),
    ("a fifo", ({"name": "pipe", "type": tarfile.FIFOTYPE}, b"")),
    ("a name twice", ({"name": "triton/k"}, b"other")),
    ("a file below a file", ({"name": "triton/k/x"}, b"other")),
    ("a name that is a control code", ({"name": "triton/\x1b[2J"}, b"x")),
]


@pytest.mark.parametrize("bad", [bad for _, bad in OUTSIDE], ids=[name for name, _ in OUTSIDE])
def test_archive_is_refused_whole_when_one_member_is_no_plain_file_inside(looks, run_stage, bad):
    """Root unpacks it. One line, no half of it, and the start goes on without."""
    offer(looks, archive_of(GOOD, bad))

    result = run_stage("35-caches.sh", **ON)

    assert result.returncode == 1
    assert looks.why("35-caches.sh").startswith(f"{caches.uri()}/caches-0.tar.gz: ")
    assert len(looks.why("35-caches.sh").splitlines()) == 1
    assert [p.name for p in (looks.root / "var/cache").iterdir()] == ["mayfly"]
    assert not (looks.root / "var/evil").exists()


def spoiled_content(node):
    offer(node, archive_of(GOOD))
    node.google.put(f"{caches.uri()}/caches-0.tar.gz", archive_of(({"name": "evil"}, b"x")))


def spoiled_manifest(node):
    node.google.put(f"{caches.uri()}/manifest.json", "{}")


def huge(node):
    manifest = json.loads(manifest_of({"caches-0.tar.gz": b"x"}))
    manifest["files"][0]["size"] = (2 << 30) + 1
    node.google.put(f"{caches.uri()}/manifest.json", json.dumps(manifest))


def without_archive(node):
    offer(node, b"x", name="something-else")


def lost_archive(node):
    offer(node, archive_of(GOOD))
    (node.google.buckets / caches.uri().removeprefix("gs://") / "caches-0.tar.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (spoiled_content, "is not what its manifest says"),
        (spoiled_manifest, "bad gs://c/kernels/"),
        (huge, "holds 2147483649 bytes, more than the 2147483648 we take"),
        (without_archive, "manifest.json names none"),
        (lost_archive, "caches-0.tar.gz is not there as its manifest says"),
    ],
)
def test_start_goes_on_without_caches_when_what_the_bucket_has_is_bad(
    looks, run_stage, spoil, line
):
    """One line that says so; nothing on the disk."""
    spoil(looks)

    result = run_stage("35-caches.sh", **ON)

    assert result.returncode == 1
    assert line in looks.why("35-caches.sh")
    assert not (looks.root / "var/cache/mayfly-vllm").exists()


@pytest.mark.parametrize("spoil", [spoiled_content, spoiled_manifest, lost_archive])
def test_caches_are_saved_anew_when_what_the_bucket_has_is_bad(looks, run_stage, spoil):
    """A node may not replace them: without a second place every start would compile for ever."""
    spoil(looks)
    before = caches.uri()
    assert run_stage("35-caches.sh", **ON).returncode == 1
    folder = compiled(looks)
    saved = tree(folder)

    assert run_stage("70-save.sh", **ON).returncode == 0
    folder.rename(folder.with_name("old"))
    result = run_stage("35-caches.sh", **ON)

    assert result.returncode == 0, result.stderr
    assert (before.rpartition("/")[2], caches.uri().rpartition("/")[2]) == ("1", "2")
    assert tree(folder) == saved


def test_caches_are_not_saved_anew_when_they_only_could_not_be_brought(looks, run_stage):
    """A network that breaks says nothing about what lies at its other end."""
    offer(looks, archive_of(GOOD))
    before = bucket(looks)
    looks.stub("gsutil", exit_status=1)
    assert run_stage("35-caches.sh", **ON).returncode == 1
    assert "could not pull gs://c/kernels/" in looks.why("35-caches.sh")
    compiled(looks)

    result = run_stage("70-save.sh", **ON)

    assert "the bucket has kernel caches for this start" in result.stderr
    assert bucket(looks) == before


def test_caches_are_not_saved_for_ever_when_all_are_bad(looks, run_stage):
    """A machine on which none is any good must not fill the bucket."""
    data = archive_of(GOOD)
    for number in range(1, 10):
        uri = f"{caches.uri().rpartition('/')[0]}/{number}"
        looks.google.put(f"{uri}/caches-0.tar.gz", data)
        looks.google.put(f"{uri}/manifest.json", manifest_of({"caches-0.tar.gz": data}))
    before = bucket(looks)
    looks.write("run/mayfly/bad-caches", f"{caches.uri()}\n")
    compiled(looks)

    assert run_stage("70-save.sh", **ON).returncode == 0

    assert bucket(looks) == before


def test_nothing_is_asked_when_the_disk_has_caches_of_an_earlier_boot(looks, run_stage):
    """After a driver's reboot, and under the link that systemd leaves."""
    looks.write("var/cache/private/mayfly-vllm/triton/k", "kernel")
    (looks.root / "var/cache/mayfly-vllm").symlink_to("private/mayfly-vllm")

    result = run_stage("35-caches.sh", **ON)

    assert "already" in result.stderr
    assert looks.calls("gsutil") == []


def test_gpus_of_two_kinds_have_no_caches_when_asked_for(looks, run_stage):
    """A half-broken machine must not save kernels under one kind's name."""
    looks.write("said-by-nvidia-smi", GPUS + "NVIDIA A100-SXM4-80GB, 580.159.04\n")

    assert run_stage("70-save.sh", **ON).returncode == 1
    assert "names no single kind of GPU" in looks.why("70-save.sh")
