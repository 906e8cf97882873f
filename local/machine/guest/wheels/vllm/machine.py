"""What the engine finds on this machine: GPUs, driver, NCCL plugins, memory."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.checkpoint import LoadError, Model

CONFIG = "/.machine/config.json"
MODULES = "/run/machine/modules.json"
GIB = "/usr/local/gib"
GIB_TOTAL = {"A100": 79.25, "H100": 79.18, "H200": 139.8}
KIMI_LAYERS = 61
KIMI_HEADS = 64
KIMI_WEIGHTS_GIB = {True: 71.23, False: 71.34}  # with and without --language-model-only
GIB_BYTES = 2**30
BLOCK = 16


@dataclass(frozen=True)
class Machine:
    """Defaults are for a run outside any machine: eight H100, pace and load time as measured."""

    gpu_model: str = "NVIDIA H100 80GB HBM3"
    gpu_count: int = 8
    driver: str = "580.159.04"
    fabric: bool = True
    load_s: float = 0.0
    tokens_per_s: float = 120.0
    garbage_past: int = 0  # prompt tokens past which context parallelism garbles; 0: it never does

    @classmethod
    def here(cls) -> "Machine":
        """The machine we run in; outside any, the one that VLLM_MACHINE describes."""
        given, inside = os.environ.get("VLLM_MACHINE"), Path(CONFIG).exists()
        if not given and not inside:
            return cls()
        config: dict[str, Any] = json.loads(given or Path(CONFIG).read_text())
        driver, fabric = config.get("driver", cls.driver), config.get("fabric", True)
        if inside:
            modules = Path(MODULES)
            driver = json.loads(modules.read_text())["version"] if modules.exists() else ""
            fabric = fabric_manager_runs()
        return cls(
            gpu_model=config["gpu_model"],
            gpu_count=config["gpu_count"],
            driver=driver,
            fabric=fabric,
            load_s=float(config["settings"]["vllm_load_s"]),
            tokens_per_s=float(config["settings"]["vllm_tokens_per_s"]),
            garbage_past=int(config["settings"].get("vllm_garbage_past", 0)),
        )

    @property
    def total_gib(self) -> float:
        return next((size for name, size in GIB_TOTAL.items() if name in self.gpu_model), 79.18)


def fabric_manager_runs() -> bool:
    """Without it no GPU of an NVSwitch machine computes."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"nvidia-fabricmanager" in words:
                return True
    return False


def check_gpus(machine: Machine, options: Any, environment: Mapping[str, str]) -> None:
    """Everything between us and a working CUDA and NCCL. Raises LoadError."""
    if not machine.gpu_count or not machine.driver:
        raise LoadError(
            "RuntimeError: Failed to infer device type, please set the environment variable "
            "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."
        )
    if int(machine.driver.split(".")[0]) < 580:
        raise LoadError(
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). "
            "Please update your GPU driver by downloading and installing a new version."
        )
    world = options.tensor_parallel_size * options.pipeline_parallel_size
    if world > machine.gpu_count:
        raise LoadError(
            f"ValueError: World size ({world}) is larger than the number of available GPUs "
            f"({machine.gpu_count}) in this node."
        )
    if not machine.fabric and machine.gpu_count == 8:
        raise LoadError("RuntimeError: CUDA error: system not yet initialized (error 802)")
    if world > 1:
        check_nccl(environment)


def check_nccl(environment: Mapping[str, str]) -> None:
    """NCCL stops where it is told to use gIB, or finds its plugin, and there is no such NIC."""
    settings = nccl_conf(environment) | dict(environment)
    plugin = settings.get("NCCL_NET_PLUGIN", "") != "none" and Path(GIB, "lib64").exists()
    if settings.get("NCCL_NET") == "gIB" or (plugin and "NCCL_NET" not in settings):
        raise LoadError(
            "NCCL WARN Error: network gIB not found.\n"
            "RuntimeError: NCCL error: invalid usage (run with NCCL_DEBUG=WARN for details)"
        )


def nccl_conf(environment: Mapping[str, str]) -> dict[str, str]:
    path = Path(environment.get("NCCL_CONF_FILE", "/etc/nccl.conf"))
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


@dataclass(frozen=True)
class Cache:
    """The KV cache that fits."""

    tokens: int
    gib: float
    max_length: int


def check_length(model: Model, options: Any) -> int:
    """The length that is wanted; -1: what fits. Raises LoadError."""
    wanted: int = options.max_model_len or model.max_length
    if wanted > model.max_length:
        raise LoadError(
            f"ValueError: User-specified max_model_len ({wanted}) is greater than the derived "
            f"max_model_len (max_position_embeddings={model.max_length})."
        )
    return wanted


def plan_cache(machine: Machine, model: Model, options: Any) -> Cache:
    """Measured figures for the Kimi shape, plenty for any other. Raises LoadError.

    As in vLLM it is known only when the weights are loaded.
    """
    wanted = check_length(model, options)
    text = model.text
    width = text.get("kv_lora_rank", 512) + text.get("qk_rope_head_dim", 64)
    fp8 = str(options.kv_cache_dtype or "").startswith("fp8")
    check_cache_dtype(machine, options, fp8)
    ranks = options.decode_context_parallel_size
    token_bytes = text["num_hidden_layers"] * width * (1 if fp8 else 2) / ranks
    gib = available_gib(machine, model, options)
    tokens = int(gib * GIB_BYTES / token_bytes) // BLOCK * BLOCK
    if gib <= 0:
        raise LoadError(
            "ValueError: No available memory for the cache blocks. Try increasing "
            "`gpu_memory_utilization` when initializing the engine."
        )
    if wanted == -1:
        return Cache(tokens, gib, min(tokens, model.max_length))
    if wanted > tokens:
        raise LoadError(
            f"ValueError: To serve at least one request with the models's max seq len ({wanted}), "
            f"({wanted * token_bytes / GIB_BYTES:.2f} GiB KV cache is needed, which is larger than "
            f"the available KV cache memory ({gib:.2f} GiB). Based on the available memory, the "
            f"estimated maximum model length is {tokens}. Try increasing "
            "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
        )
    return Cache(tokens, gib, wanted)


def check_cache_dtype(machine: Machine, options: Any, fp8: bool) -> None:
    ranks = options.decode_context_parallel_size
    if options.tensor_parallel_size % ranks:
        raise LoadError(
            f"ValueError: tp_size={options.tensor_parallel_size} must be divisible by "
            f"dcp_size={ranks}."
        )
    if fp8 and ranks > 1:
        raise LoadError("AssertionError: DCP not support fp8 kvcache now.")
    if fp8 and "A100" in machine.gpu_model:
        raise LoadError("ValueError: fp8 KV cache needs a GPU of compute capability 8.9 or more.")


def is_kimi(model: Model) -> bool:
    return bool(model.text["num_hidden_layers"] == KIMI_LAYERS)


def weights_gib(machine: Machine, model: Model, options: Any) -> float:
    """Per GPU: as measured for the Kimi shape, half of what may be used for any other."""
    if is_kimi(model):
        text_only = bool(options.language_model_only) or "text_config" not in model.config
        return KIMI_WEIGHTS_GIB[text_only]
    return float((options.gpu_memory_utilization or 0.92) * machine.total_gib / 2)


def available_gib(machine: Machine, model: Model, options: Any) -> float:
    """Per GPU, after weights, activations and graphs."""
    if options.kv_cache_memory_bytes:
        return float(options.kv_cache_memory_bytes / GIB_BYTES)
    share = options.gpu_memory_utilization or 0.92
    weights = weights_gib(machine, model, options)
    if not is_kimi(model):
        return float(share * machine.total_gib - weights)
    # A rank by itself has an eighth of the 64 heads: as much on its GPU as one of eight ranks.
    if options.tensor_parallel_size * KIMI_HEADS != 8 * model.text["num_attention_heads"]:
        return 0.0
    batched = options.max_num_batched_tokens or 8192
    overhead = 0.85 + 0.27 * batched / 1024 + (0.25 if (options.max_num_seqs or 1024) >= 64 else 0)
    return share * machine.total_gib - weights - overhead
