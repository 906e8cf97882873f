"""Measure one tensor-parallel rank of a model on one GPU, before eight are rented.

The rank has the exact shapes of one of the plan's ranks (mayfly/rank.py), made-up weights and the
real engine. Left out, by nature: the all-reduce between GPUs, context parallelism, vision tower.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mayfly.errors import WrongInputError
from mayfly.machines import torch_gib
from mayfly.probe_case import Case, Plan, beside, case_of, read
from mayfly.project import CHECKOUT

NOTHING_STARTED = "Nothing was started; nothing is billed."


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A plan's rank, measured here. python: an interpreter with vLLM; out: folder for its log."""

    plan: Plan
    limit_s: float
    python: str
    out: Path


def probe(ask: Ask) -> dict[str, Any]:
    """Measure a plan's rank and set it beside the plan; WrongInputError without GPU or vLLM.

    `exit` is 0 only if all was measured; what was measured before that is kept.
    """
    case = replace(case_of(ask.plan), limit_s=ask.limit_s)
    gpu = gpu_here()
    version = engine_in(ask.python, ask.plan.profile.engine.lock)
    name = ask.plan.profile.name
    print(f"Starting vLLM {version} on one rank of {name}: minutes.", file=sys.stderr)
    measured = run(case, ask.python, ask.out)
    return {**beside(ask.plan, measured, gpu["name"], gpu["gib"]), "engine": version}


def gpu_here() -> dict[str, Any]:
    """Name and memory of the first GPU. WrongInputError where there is none."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        name, mib = answer.stdout.splitlines()[0].rsplit(",", 1)
        return {"name": name.strip(), "gib": round(torch_gib(int(mib) / 1024), 2)}
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        raise WrongInputError(
            "No NVIDIA GPU answers here (nvidia-smi): a probe needs one.",
            NOTHING_STARTED,
            "Try: mayfly plan PROFILE, which needs none; or a probe on a machine with one GPU",
        ) from None


def engine_in(python: str, lock: str) -> str:
    """The version of vLLM that an interpreter has; WrongInputError names the lock to install."""
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    path = shutil.which(python)
    try:
        answer = subprocess.run(
            [path or python, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        return answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        raise WrongInputError(
            f"{python} has no vLLM: a probe starts the real engine.",
            NOTHING_STARTED,
            "Try: uv venv --python 3.12 ENGINE && uv pip install --python ENGINE/bin/python "
            f"--require-hashes -r startup/locks/{lock}, then mayfly probe ... "
            "--python ENGINE/bin/python",
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
    measured: dict[str, Any] = {"exit": code, **read(text)}
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
