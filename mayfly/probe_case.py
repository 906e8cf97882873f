"""One rank of a plan as a case for the real engine, and what came of it beside the plan.

Pure: the same whether the engine runs on this machine (mayfly/probe.py) or on a VM.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mayfly.fit import Setup, fit_shape, reserve_gib, weights_bytes
from mayfly.machines import GPUS, MACHINES
from mayfly.profile import PROFILES, Profile
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
BATCHES = (1, 8, 64)
PREFILL = (8192,)


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
class Plan:
    """Whose rank is measured: one of a profile's on a machine, with the settings of a mode.

    batches: requests at a time; prefill: prompt tokens.
    """

    profile: Profile
    machine: str
    mode: str
    batches: tuple[int, ...] = BATCHES
    prefill: tuple[int, ...] = PREFILL

    def setup(self) -> Setup:
        """How the plan starts the engine. FitError where it does not fit."""
        return self.profile.choose(self.machine, self.mode).setup


def case_of(plan: Plan) -> Case:
    """The plan's rank as a case; FitError where the plan does not fit.

    Context parallelism needs the other ranks, so it is left out.
    """
    profile, setup = plan.profile, plan.setup()
    config = json.loads((PROFILES / "configs" / str(profile.config)).read_text(encoding="utf-8"))
    kv_type = profile.shape.kv_type if profile.shape else ""
    return Case(
        name=f"{profile.name}-{plan.mode}-tp{setup.tp}",
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
        decode=tuple(batch for batch in plan.batches if batch <= setup.seqs),
        prefill=plan.prefill,
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


def beside(plan: Plan, measured: Mapping[str, Any], gpu: str, gib: float) -> dict[str, Any]:
    """The engine's figures beside the plan's. gib: of that GPU, where torch did not say."""
    setup = plan.setup()
    gpu_gib = measured.get("gpu_gib") or gib
    predicted = predict(plan.profile, setup, gpu_gib)
    return {
        "profile": plan.profile.name,
        "model": plan.profile.model,
        "machine": plan.machine,
        "mode": plan.mode,
        "rank": f"1 of {setup.tp}",
        "leaves_out": LEAVES_OUT if setup.tp > 1 else "nothing but real weights",
        "gpu": gpu,
        "gpu_gib": gpu_gib,
        "planned_gpu_gib": GPUS[MACHINES[plan.machine].gpu].gib,
        "planned_engine": plan.profile.engine.vllm,
        "predicted": predicted,
        "measured": measured,
        "difference_percent": {
            name: round(100 * (measured[name] - value) / value, 1)
            for name, value in predicted.items()
            if measured.get(name) is not None and value
        },
        "exit": measured["exit"],
    }


def read(text: str) -> dict[str, Any]:
    """All figures of an engine's log and of the child's own lines."""
    measured = read_log(text)
    for line in re.findall(r"^RESULT (.*)$", text, re.M):
        measured.update(json.loads(line))
    return measured


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
