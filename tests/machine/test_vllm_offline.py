"""The stand-in's LLM class: a program that would fail with vLLM fails with it."""

import json
import os
import subprocess
import sys

import pytest

from mayfly import profile
from mayfly.probe_case import Plan, case_of
from tests.conftest import ROOT
from tests.machine.vllm_server import WHEELS


def measure(case: dict[str, object], **machine: object) -> subprocess.CompletedProcess[str]:
    """mayfly's own child process, on this engine."""
    there = {"gpu_model": "NVIDIA H100 80GB HBM3", "gpu_count": 1, **machine}
    pace = {"vllm_load_s": 0, "vllm_tokens_per_s": 20_000}
    environment = {
        **os.environ,
        "PYTHONPATH": f"{WHEELS}{os.pathsep}{ROOT}",
        "VLLM_MACHINE": json.dumps({**there, "settings": pace}),
    }
    return subprocess.run(
        [sys.executable, "-m", "mayfly.probe_rank", json.dumps(case)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def case(**llm: object) -> dict[str, object]:
    plan = Plan(profile=profile.load("kimi-k2.5"), machine="a3-highgpu-8g", mode="fast")
    told: dict[str, object] = json.loads(case_of(plan).told())
    return {**told, "llm": {**dict(told["llm"]), **llm}, "prefill": [1024]}


def test_rank_is_measured_when_a_gpu_is_there():
    """One of eight ranks keeps as much cache by itself as among the others."""
    done = measure(case())

    assert done.returncode == 0, done.stderr
    assert "Model loading took 71.23 GiB" in done.stderr
    assert "Available KV cache memory: 3.14 GiB" in done.stderr
    assert '"gpu_gib": 79.18' in done.stdout


@pytest.mark.parametrize(
    ("llm", "machine", "says"),
    [
        ({"gpu_memory_utilisation": 0.9}, {}, "unexpected keyword argument"),
        ({"max_num_seqs": "many"}, {}, "invalid int value: 'many'"),
        ({"load_format": "dumy"}, {}, "multiple values"),
        ({"max_model_len": 400_000}, {}, "greater than the derived max_model_len"),
        ({"max_model_len": 100}, {}, "longer than the maximum model length of 100"),
        ({}, {"gpu_count": 0}, "Failed to infer device type"),
        ({}, {"driver": "570.211.01"}, "driver on your system is too old"),
    ],
)
def test_measurement_fails_in_vllms_words_when_vllm_would_refuse(llm, machine, says):
    """A stand-in that takes anything would let a wrong case through to a rented GPU."""
    done = measure(case(**llm), **machine)

    assert done.returncode != 0
    assert says in done.stderr
