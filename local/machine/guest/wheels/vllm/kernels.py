"""Compiles once: a graph and a kernel a rank, kept where vLLM, Triton and CUDA keep theirs.

A kernel runs on the GPU and driver it was made for; on others a start that finds it dies. Nothing
is kept where VLLM_CACHE_ROOT does not say where: the real one takes the user's home.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm import __version__
from vllm.checkpoint import LoadError, Model
from vllm.machine import Machine

CODE_BYTES = 4096
NO_SHAPE = ("host", "port", "served_model_name", "middleware", "load_format", "allowed_origins")
Log = Callable[[str, str, str], None]


def warm_up(machine: Machine, model: Model, options: Any, log: Log) -> None:
    """Take each kernel from the caches, or make it and put it there. Raises LoadError."""
    root = os.environ.get("VLLM_CACHE_ROOT")
    if root is None or options.enforce_eager:
        return
    shape = {name: value for name, value in vars(options).items() if name not in NO_SHAPE}
    key = hashlib.sha256(json.dumps([model.config, shape], default=str).encode()).hexdigest()
    graphs = Path(root, "torch_compile_cache", key[:10])
    triton = Path(os.environ.get("TRITON_CACHE_DIR") or Path(root, "triton"), key[:32])
    cuda = Path(os.environ.get("CUDA_CACHE_PATH") or Path(root, "cuda"), key[0])
    ranks = range(options.tensor_parallel_size)
    kept = [graphs / f"rank_{rank}_0/backbone/vllm_compile_cache.py" for rank in ranks]
    kept += [triton / "kernel.cubin", cuda / "kernel"]
    began = time.monotonic()
    made = [path for path in kept if not have(machine, path)]
    took_s = time.monotonic() - began
    graph = "graph(s) for compile range (1, 2048)"
    if made:
        log(f"Cache the {graph} for later use", "backends.py:378", "EngineCore")
    else:
        said = f"Directly load the compiled {graph} from the cache, took {took_s:.3f} s"
        log(said, "backends.py:292", "EngineCore")
    log(f"torch.compile took {took_s:.2f} s in total", "monitor.py:53", "EngineCore")


def have(machine: Machine, path: Path) -> bool:
    """Whether it was there. Raises LoadError where it is of no use here, or cannot be kept."""
    made_for = {"gpu": machine.gpu_model, "driver": machine.driver, "vllm": __version__}
    try:
        found = json.loads(path.read_bytes().partition(b"\n")[0])
    except FileNotFoundError:
        write(path, json.dumps(made_for).encode())
        return False
    except ValueError as error:
        raise LoadError(
            f"RuntimeError: Triton Error [CUDA]: device kernel image is invalid ({path})"
        ) from error
    if found != made_for:
        raise LoadError(
            "torch.AcceleratorError: CUDA error: no kernel image is available for execution on "
            f"the device ({path})"
        )
    return True


def write(path: Path, made_for: bytes) -> None:
    new = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(made_for + b"\n" + os.urandom(CODE_BYTES))
        new.replace(path)
    except OSError as error:
        raise LoadError(f"{type(error).__name__}: {error}") from error
