"""Measured starts: the unit's own environment and command line, every moment read from the log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import checkpoint, start, start_server
from local.children import free_port
from tests.bench.test_checkpoint import SMALL
from tests.conftest import ROOT
from tests.machine.vllm_server import HOST, WHEELS


def test_unit_sets_and_unsets_what_it_does_on_a_node_when_read():
    """A start with another environment would measure another node."""
    sets, unsets = start.unit_environment(Path("/r"))

    assert sets["HOME"] == "/r/var/cache/mayfly-vllm"
    assert sets["PYTHONPATH"] == "/r/opt/mayfly"
    assert sets["NCCL_NET_PLUGIN"] == "none"
    assert "VLLM_API_KEY" not in sets
    assert {"LD_LIBRARY_PATH", "NCCL_IB_TC"} <= set(unsets)


def test_flags_are_the_profiles_on_one_gpu_when_the_case_adds_some():
    """The last one wins at vLLM, so a case's own come last."""
    flags = start.flags("kimi-k2.5", ["--max-num-seqs=4"])

    assert "--tensor-parallel-size=1" in flags
    assert "--language-model-only" in flags
    assert flags[-1] == "--max-num-seqs=4"


def test_shards_come_back_one_by_one_when_they_arrive(tmp_path):
    """By bytes and in the order of their names, as a pull brings them; none may be lost."""
    weights = tmp_path / "mnt/mayfly/weights"
    weights.mkdir(parents=True)
    for number, size in enumerate((100, 300)):
        (weights / f"{number}.safetensors").write_bytes(b"x" * size)

    arrival = start_server.Arrival(tmp_path, {"after_s": 0.0, "over_s": 0.4})
    assert list(weights.iterdir()) == []
    arrival.start()
    arrival.restore()

    assert sorted(path.name for path in weights.iterdir()) == ["0.safetensors", "1.safetensors"]
    assert arrival.last_s == pytest.approx(0.4, abs=0.3)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Four cases against the stand-in vLLM: a good one with the watchdog, restored, a bad one."""
    folder = tmp_path_factory.mktemp("start")
    root, out = folder / "root", folder / "out"
    checkpoint.make(root / "mnt/mayfly", SMALL, threads=2)
    kernels = root / "var/cache/mayfly-vllm/triton"
    kernels.mkdir(parents=True)
    (kernels / "kernel.cubin").write_text("code")
    stub = folder / "bin/nvidia-smi"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\necho 0\n")
    stub.chmod(0o755)
    asking = ["{python}", "-c", "import os; print(os.environ['OPENAI_BASE_URL'], '{root}')"]
    cases = [
        {"name": "good", "load_format": "safetensors", "watch": 2, "check": True},
        {"name": "restored", "load_format": "safetensors", "caches": "restored", "then": asking},
        {"name": "bad", "load_format": "safetensors", "flags": ["--no-such-flag"]},
        {"name": "cut", "load_format": "safetensors", "until": "load_begins"},
    ]
    plain = {"format": "safetensors", "limit_s": 60}
    (folder / "cases.json").write_text(json.dumps([case | plain for case in cases]))
    quick = HOST | {"settings": {"vllm_load_s": "0", "vllm_tokens_per_s": "2000"}}
    env = {
        **os.environ,
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(WHEELS),
        "PORT": str(free_port()),
        "VLLM_MACHINE": json.dumps(quick),
    }
    command = [sys.executable, str(ROOT / "bench/start.py"), "--root", str(root), "--out", str(out)]
    done = subprocess.run(
        [*command, "--cases", str(folder / "cases.json")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # one of them is bad
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_start_has_every_moment_when_the_server_answers(measured):
    """They are the model's inputs."""
    good = measured[0]

    assert good["ok"]
    marks = [good["marks"][name] for name in ("first_line", "engine", "load_begins", "healthy")]
    assert marks == sorted(marks)
    assert "model_took_s" in good["figures"]
    assert good["argv"][1] == "serve"
    assert "startup.key_guard.KeyGuard" in good["argv"]


def test_start_lets_nobody_in_without_the_key_when_it_serves(measured):
    """The command line is the product's: so must the open paths be."""
    open_paths = {
        path for path, status in measured[0]["answer"]["without_key"].items() if status != 401
    }

    assert open_paths == {"/health", "/metrics"}
    assert measured[0]["check"]["exit"] == 0


def test_watchdog_sees_work_then_idleness_when_a_request_ends(measured):
    """The real one, on the real counters: active while it runs, and power off when it is over."""
    watch = measured[0]["watch"]
    looks = watch["looks"]

    assert any(look["metrics_active"] and look["kind"] == "active" for look in looks)
    assert [look["kind"] for look in looks][-1] == "idle"
    assert [look["end"] for look in looks].count(True) == 1
    assert watch["ended"] == ["power off"]
    assert watch["told"]["phase"] == "ended"


def test_caches_go_through_the_archive_when_restored(measured):
    """What is measured is what a node does: packed, removed, unpacked."""
    assert measured[1]["ok"]
    caches = measured[1]["caches"]
    assert caches["archive_bytes"] > 0
    assert caches["unpack_s"] > 0
    assert caches["bytes"] >= len("code")


def test_command_runs_beside_the_server_when_a_case_names_one(measured):
    """So is our benchmark held to vLLM's own: one server, both clients."""
    then = measured[1]["then"]

    assert then["exit"] == 0
    assert measured[0].get("then") is None
    root = measured[1]["argv"][2].removesuffix("/mnt/mayfly/weights")
    said = (Path(root).parent / "out/restored-then.log").read_text()
    assert said.startswith("http://127.0.0.1:")
    assert said.split()[1] == root


def test_start_says_why_when_the_server_dies(measured):
    """A failure is a result too, and must not look like a slow start."""
    assert measured[2]["ok"] is False
    assert "unrecognized arguments: --no-such-flag" in " ".join(measured[2]["last_lines"])


def test_start_ends_at_a_mark_when_that_is_all_that_is_asked(measured):
    """Imports cost a minute of a GPU, a whole cold start five."""
    assert measured[3]["ok"]
    assert "load_begins" in measured[3]["marks"]
    assert "answer" not in measured[3]
