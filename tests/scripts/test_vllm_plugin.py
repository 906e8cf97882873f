"""The load format `mayfly`: vLLM starts while its shards arrive, and never waits in silence."""

import base64
import json
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from local import checkpoint
from mayfly import profile, profile_parts
from startup import manifest
from startup.vllm_plugin import shards
from tests.conftest import ROOT
from tests.machine import vllm_server
from tests.running import running

METADATA = ROOT / "startup/vllm_plugin/metadata"
# Loads by the name in argv[1], in the stand-in vLLM, and says what came.
LOAD = """
import argparse, json, logging, sys
from pathlib import Path
from vllm import plugins, weights
logging.basicConfig(level=logging.INFO, format="%(message)s")
plugins.load_general_plugins()
options = argparse.Namespace(
    load_format=sys.argv[1], model_loader_extra_config=None, safetensors_load_strategy=None
)
found = weights.load(Path(sys.argv[2]), options)
print(json.dumps([sorted(set(found.shard_of.values())), found.total_bytes]))
"""


def entry(name: str, size: int) -> dict[str, object]:
    crc32c = base64.b64encode(b"crc!").decode()
    return {"name": name, "size": size, "crc32c": crc32c, "sha256": None}


class Node:
    """A machine's folders and a whole model to feed from."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self.weights = root / "mnt/mayfly/weights"
        self.weights.mkdir(parents=True)
        (root / "mnt/mayfly/arriving").mkdir()
        self.names = sorted(path.name for path in model.glob("*.safetensors"))
        for path in model.iterdir():
            if path.suffix != ".safetensors":
                (self.weights / path.name).write_bytes(path.read_bytes())
        self.promise(*self.names)

    def promise(self, *names: str) -> None:
        rows = [entry(name, self.size(name)) for name in names]
        text = json.dumps({"format": 1, "files": [entry("config.json", 1), *rows]})
        (self.root / "mnt/mayfly/weights.json").write_text(text)

    def size(self, name: str) -> int:
        path = self.model / name
        return path.stat().st_size if path.exists() else 1

    def arrive(self, *names: str) -> None:
        for name in names:
            new = self.root / "mnt/mayfly/arriving" / name
            new.write_bytes((self.model / name).read_bytes())
            new.replace(self.weights / name)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **vllm_server.environment(self.root),
            "PYTHONPATH": f"{vllm_server.WHEELS}:{ROOT}:{METADATA}",
            "MAYFLY_ROOT": str(self.root),
            "MAYFLY_LOAD_FORMAT": "safetensors",
            **more,
        }

    def start(
        self, folder: Path | None = None, **more: str
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        return running(
            [sys.executable, "-c", LOAD, "mayfly", str(folder or self.weights)],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def load(self, folder: Path | None = None, **more: str) -> tuple[int, str, str]:
        """(status, stdout, stderr)."""
        with self.start(folder, **more) as process:
            out, err = process.communicate(timeout=60)
            return process.returncode, out, err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("model"), 16)


@pytest.fixture
def node(model, tmp_path):
    return Node(tmp_path / "node", model)


@pytest.fixture
def arrivals(node, monkeypatch):
    monkeypatch.setenv("MAYFLY_ROOT", str(node.root))
    return shards.expected()


def lines_of(process: subprocess.Popen[str], until: str) -> str:
    """Its stderr up to a line that holds `until`; all of it when none does."""
    read = []
    for line in process.stderr:
        read.append(line)
        if until in line:
            break
    return "".join(read)


def test_plugin_starts_to_load_before_the_last_shard_arrives_when_they_come_one_by_one(node):
    """What all of it is for: imports and loading beside the pull, not after it."""
    *most, last = node.names
    node.arrive(*most)
    with node.start() as process:
        before = lines_of(process, f"waiting for {last}")
        node.arrive(last)
        out, err = process.communicate(timeout=60)

    assert "mayfly: group 1 of" in before
    assert "mayfly: all groups loaded" not in before
    assert "mayfly: all groups loaded" in err
    assert json.loads(out.splitlines()[-1])[0] == node.names


def test_plugin_loads_each_tensor_once_when_all_is_there(node):
    """A tensor twice or never is a model that talks nonsense."""
    node.arrive(*node.names)
    status, out, _ = node.load()
    plain = node.environment(PYTHONPATH=f"{vllm_server.WHEELS}:{ROOT}")
    words = [sys.executable, "-c", LOAD, "safetensors", str(node.weights)]
    other = subprocess.run(words, env=plain, capture_output=True, text=True, timeout=60)

    assert status == 0
    assert out.splitlines()[-1] == other.stdout.splitlines()[-1]


def test_plugin_leaves_out_a_second_copy_when_the_index_does_not_name_it(node):
    """Some checkpoints carry the same weights twice; it would even wait for the wrong ones."""
    node.promise("consolidated.safetensors", *node.names)
    node.arrive(*node.names)

    status, out, err = node.load()

    assert status == 0, err
    assert json.loads(out.splitlines()[-1])[0] == node.names


def test_plugin_waits_for_nothing_when_the_folder_is_another(node, model):
    """A draft model lies elsewhere and is there."""
    status, out, err = node.load(model)

    assert status == 0, err
    assert "waiting" not in err
    assert json.loads(out.splitlines()[-1])[0] == node.names


def test_plugin_loads_what_is_there_when_there_is_no_manifest(node):
    """Tried by hand, outside a session, it is the load format that it stands before."""
    (node.root / "mnt/mayfly/weights.json").unlink()
    node.arrive(*node.names)

    assert node.load()[0] == 0


@pytest.mark.parametrize(
    ("environment", "promised", "text"),
    [
        ({"MAYFLY_LOAD_FORMAT": "tensorizer"}, None, "it can be: safetensors, fastsafetensors,"),
        ({"MAYFLY_STALL_S": "0.5"}, None, "nothing has arrived in"),
        ({}, ["other.safetensors"], "have no shard of"),
        ({"MAYFLY_LOAD_FORMAT": "instanttensor"}, None, "Please install instanttensor"),
    ],
)
def test_plugin_ends_with_a_reason_when_it_cannot_load(node, environment, promised, text):
    """The stage quotes vLLM's last words; a wait without end would be the whole budget."""
    if promised:
        node.promise(*promised)
    elif "STALL" not in str(environment):
        node.arrive(*node.names)

    status, _, err = node.load(**environment)

    assert status == 1
    assert text in err


def test_vllm_says_so_when_nobody_registered_the_load_format(node):
    """The words that a plugin that does not load leaves in the log."""
    node.arrive(*node.names)

    status, _, err = node.load(PYTHONPATH=f"{vllm_server.WHEELS}:{ROOT}")

    assert status == 1
    assert "ValueError: Load format `mayfly` is not supported" in err


def test_vllm_goes_on_without_a_plugin_that_cannot_be_imported(node, tmp_path):
    """So a plugin for another vLLM looks as if it were not there."""
    broken = tmp_path / "broken/x-1.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[vllm.general_plugins]\nx = nowhere:register\n")
    node.arrive(*node.names)

    status, _, err = node.load(PYTHONPATH=f"{vllm_server.WHEELS}:{ROOT}:{METADATA}:{broken.parent}")

    assert status == 0
    assert "Failed to load plugin x" in err


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24, 64, 200])
def test_groups_hold_every_shard_once_and_follow_from_the_list_alone(count):
    """Ranks that cut elsewhere would wait for each other for ever; large ones would not overlap."""
    files = [manifest.File(f"{n:05}.safetensors", 1, "", None) for n in range(count)]

    found = shards.groups(files)

    assert [file for group in found for file in group] == files
    assert max(map(len, found)) <= shards.MOST_AT_ONCE
    assert len(found) >= min(count, shards.FEWEST_GROUPS) / 2


def test_wait_goes_on_when_bytes_still_arrive(node, arrivals, monkeypatch):
    """A shard of 9 GB may take longer than the limit for silence."""
    monkeypatch.setenv("MAYFLY_STALL_S", "3")
    done = threading.Event()

    def trickle():
        path = node.root / "mnt/mayfly/arriving/part"
        for number in range(1, 17):
            path.write_bytes(b"x" * 8192 * number)
            done.wait(0.25)
        node.arrive(node.names[0])

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        waited_s = shards.wait(arrivals.shards[:1], arrivals, lambda _: None)
    finally:
        done.set()
        thread.join()

    assert waited_s > 3


def test_wait_tells_what_it_waits_for_when_it_begins(node, arrivals):
    """Silence is what users fear most."""
    node.arrive(*node.names[1:])
    told = []

    def tell(text):
        told.append(text)
        node.arrive(node.names[0])

    shards.wait(arrivals.shards[:1], arrivals, tell)

    count = len(node.names)
    assert told == [f"waiting for {node.names[0]}: {count - 1} of {count} here"]


def test_wait_takes_no_shard_of_another_size_for_whole(node, arrivals, monkeypatch):
    """A name alone may be left from a broken disk."""
    (node.weights / node.names[0]).write_bytes(b"half")
    began = time.monotonic()
    monkeypatch.setenv("MAYFLY_STALL_S", "0.3")

    with pytest.raises(shards.StallError, match="is not there"):
        shards.wait(arrivals.shards[:1], arrivals, lambda _: None)

    assert time.monotonic() - began < 10


def test_every_profile_names_a_load_format_that_the_plugin_and_its_lock_have():
    """It would die on the GPU machine, minutes after the first dollar."""
    inner = (ROOT / "startup/vllm_plugin/loader.py").read_text()
    assert f"INNER = {profile_parts.LOAD_FORMATS}".replace("'", '"') in inner
    for name in profile.names():
        engine = profile.load(name).engine
        lock = ROOT / "startup/locks" / engine.lock
        if engine.load_format != "safetensors":
            assert f"\n{engine.load_format}==" in lock.read_text()
