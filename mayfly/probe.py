"""Measure one tensor-parallel rank of a model on one GPU, before eight are rented.

The rank has the exact shapes of one of the plan's ranks (mayfly/rank.py), made-up weights and the
real engine. Left out, by nature: the all-reduce between GPUs, context parallelism, vision tower.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import profile as profiles
from mayfly.errors import WrongInputError
from mayfly.fit import Setup, fit_shape, reserve_gib, weights_bytes
from mayfly.machines import GPUS, MACHINES
from mayfly.profile import PROFILES, Profile
from mayfly.project import CHECKOUT
from mayfly.rank import rank_config

# The engine's own words (vLLM 0.24.0), turned into figures.
LOG_FIGURES = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "kv_gib": r"Available KV cache memory: (-?[\d.]+) GiB",
    "kv_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "compile_s": r"torch\.compile took ([\d.]+) s",
    "graphs_s": r"Graph capturing finished in ([\d.]+) secs",
    "graphs_gib": r"Graph capturing finished in [\d.]+ secs, took (-?[\d.]+) GiB",
    "init_s": r"init engine \(.*?\) took ([\d.]+) s",
}
LOG_WORDS = {
    "attention": r"Using (\S+) attention backend",
    "moe": r"Using '?(\w+)'? (?:WNA16 )?Mo[eE] backend",
}
LEAVES_OUT = "the all-reduce between GPUs, context parallelism and the vision tower"
DEFAULT_LIMIT_S = 280
NOTHING_STARTED = "Nothing was started; nothing is billed."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One start of the engine. config: the rank's. llm: arguments of vllm.LLM. limit_s: its end.

    decode: requests at a time; decode_at, prefill: prompt tokens.
    """

    name: str
    config: Mapping[str, Any]
    llm: Mapping[str, Any]
    decode: tuple[int, ...] = ()
    decode_at: tuple[int, ...] = ()
    prefill: tuple[int, ...] = ()
    env: Mapping[str, str] | None = None
    limit_s: float = DEFAULT_LIMIT_S

    def told(self) -> str:
        """What the child process needs, as JSON."""
        keys = ("config", "llm", "decode", "decode_at", "prefill")
        return json.dumps({key: getattr(self, key) for key in keys})


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A profile's rank. python: an interpreter with vLLM; out: folder for the engine's log."""

    profile: Profile
    machine: str
    mode: str
    batches: tuple[int, ...]
    prefill: tuple[int, ...]
    limit_s: float
    python: str
    out: Path


def probe(ask: Ask) -> dict[str, Any]:
    """Measure a plan's rank and set it beside the plan; WrongInputError without GPU or vLLM.

    `exit` is 0 only if all was measured; what was measured before that is kept.
    """
    choice = ask.profile.choose(ask.machine, ask.mode)
    gpu = gpu_here()
    version = engine_in(ask.python)
    name = ask.profile.name
    print(f"Starting vLLM {version} on one rank of {name}: minutes.", file=sys.stderr)
    measured = run(case_of(ask, choice.setup), ask.python, ask.out)
    gpu_gib = measured.get("gpu_gib") or gpu["gib"]
    predicted = predict(ask.profile, choice.setup, gpu_gib)
    return {
        "profile": ask.profile.name,
        "model": ask.profile.model,
        "machine": ask.machine,
        "mode": ask.mode,
        "rank": f"1 of {choice.setup.tp}",
        "leaves_out": LEAVES_OUT if choice.setup.tp > 1 else "nothing but real weights",
        "gpu": gpu["name"],
        "gpu_gib": gpu_gib,
        "planned_gpu_gib": GPUS[MACHINES[ask.machine].gpu].gib,
        "engine": version,
        "planned_engine": ask.profile.engine.vllm,
        "predicted": predicted,
        "measured": measured,
        "difference_percent": {
            name: round(100 * (measured[name] - value) / value, 1)
            for name, value in predicted.items()
            if measured.get(name) is not None and value
        },
        "exit": measured["exit"],
    }


def case_of(ask: Ask, setup: Setup) -> Case:
    """The plan's rank as a case. Context parallelism needs its other ranks, so it is left out."""
    path = PROFILES / "configs" / str(ask.profile.config)
    config = json.loads(path.read_text(encoding="utf-8"))
    kv_type = ask.profile.shape.kv_type if ask.profile.shape else ""
    return Case(
        name=f"{ask.profile.name}-{ask.mode}-tp{setup.tp}",
        config=rank_config(config, setup.tp),
        llm={
            "gpu_memory_utilization": setup.util,
            "max_num_batched_tokens": setup.batched_tokens,
            "max_num_seqs": setup.seqs,
            "max_model_len": -1,  # what the cache found holds: a figure to compare, not to refuse
            "disable_log_stats": True,
            "enable_prefix_caching": True,  # as `vllm serve` does
            **({"kv_cache_dtype": "bfloat16"} if kv_type else {}),
        },
        decode=tuple(batch for batch in ask.batches if batch <= setup.seqs),
        prefill=ask.prefill,
        limit_s=ask.limit_s,
    )


def predict(profile: Profile, setup: Setup, gpu_gib: float) -> dict[str, float]:
    """What the plan says of one rank by itself, on a GPU of that size."""
    shape = profile.shape
    assert shape is not None  # or no choice had been made
    alone = Setup(
        tp=setup.tp, util=setup.util, batched_tokens=setup.batched_tokens, seqs=setup.seqs
    )
    weights = weights_bytes(shape, setup.tp)
    fit = fit_shape(shape, alone, gpu_gib, weights, reserve_gib(shape, alone, profile.engine.vllm))
    return {
        "weights_gib": round(fit.weights_gib, 2),
        "kv_gib": round(fit.kv_gib, 2),
        "kv_tokens": fit.kv_tokens,
    }


def gpu_here() -> dict[str, Any]:
    """Name and memory of the first GPU. WrongInputError where there is none."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        name, mib = answer.stdout.splitlines()[0].rsplit(",", 1)
        return {"name": name.strip(), "gib": round(int(mib) / 1024, 2)}
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        raise WrongInputError(
            "No NVIDIA GPU answers here (nvidia-smi): a probe needs one.",
            NOTHING_STARTED,
            "Try: mayfly plan PROFILE, which needs none; or a probe on a machine with one GPU",
        ) from None


def engine_in(python: str) -> str:
    """The version of vLLM that an interpreter has. WrongInputError where it has none."""
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    path = shutil.which(python)
    try:
        answer = subprocess.run(
            [path or python, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        return answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        lock = "startup/locks/" + profiles.load("kimi-k2.5").engine.lock
        raise WrongInputError(
            f"{python} has no vLLM: a probe starts the real engine.",
            NOTHING_STARTED,
            "Try: uv venv --python 3.12 ENGINE && uv pip install --python ENGINE/bin/python "
            f"--require-hashes -r {lock}, then mayfly probe ... --python ENGINE/bin/python",
        ) from None


def run(case: Case, python: str, out: Path) -> dict[str, Any]:
    """Run one case in its own process, within its time limit; a failure is a result too."""
    out.mkdir(parents=True, exist_ok=True)
    log_path = out / f"{case.name}.log"
    started = time.perf_counter()
    with log_path.open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [python, "-m", "mayfly.probe_rank", case.told()],
            cwd=CHECKOUT,
            env=environment(case.env or {}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        output, code = _finish(child, case.limit_s)
        log.write(output)
    text = log_path.read_text(errors="replace")
    measured: dict[str, Any] = {"exit": code, **read_log(text)}
    for line in re.findall(r"^RESULT (.*)$", output, re.M):
        measured.update(json.loads(line))
    if code != 0:
        measured["error"] = text[-800:]
    measured["wall_s"] = round(time.perf_counter() - started, 1)
    return measured


def _finish(child: subprocess.Popen[str], limit_s: float) -> tuple[str, int | str]:
    """Its output and exit code, or "time limit"; whatever happens, nothing of it lives on."""
    try:
        output, _ = child.communicate(timeout=limit_s)
        return output, child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        return output, "time limit"
    except BaseException:
        # Ctrl-C: the engine is a process of its own that would keep the GPU's memory.
        os.killpg(child.pid, signal.SIGKILL)
        raise


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The child's: no hub, no usage report, and this checkout importable after what was there."""
    paths = [part for part in (os.environ.get("PYTHONPATH"), str(CHECKOUT)) if part]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        **more,
    }


def read_log(text: str) -> dict[str, Any]:
    """What the engine said of memory, time and kernels; a figure it did not print is None."""
    found: dict[str, Any] = {}
    for name, pattern in LOG_FIGURES.items():
        hit = re.search(pattern, text)
        found[name] = float(hit.group(1).replace(",", "")) if hit else None
    for name, pattern in LOG_WORDS.items():
        hit = re.search(pattern, text)
        found[name] = hit.group(1) if hit else None
    return found
