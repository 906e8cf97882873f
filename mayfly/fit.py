"""Does a model fit a machine, and how much context is left: computed before any money is spent.

    KV cache = utilisation x GPU memory - weights - reserve

The reserve (activations, CUDA graphs) is fitted to vLLM 0.24.0's own reports for one rank of
Kimi K2.5 on an H100 (docs/results/); expect +-0.3 GiB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mayfly.shape import CacheLayers, Shape, shape_of

GIB = 2**30
BLOCK_TOKENS = 16

# GiB, fitted at hidden size 7168; the per-token part grows with the width of the activations. Of
# the first figure 0.16 is what the engine loads beyond the arithmetic's weights (71.23 for 71.07).
RESERVE_GIB = 1.46
RESERVE_GIB_PER_1024_TOKENS = 0.27
RESERVE_HIDDEN = 7168
# Larger decode batches mean more CUDA graphs: 8 sequences are in the base, 64 take this on top.
GRAPHS_GIB_AT_64 = 0.25
# Before 0.21 the engine did not charge its estimate of CUDA graphs to the reserve.
GRAPH_ESTIMATE_SINCE = (0, 21)
UNCHARGED_GIB = 1.06
DCP_WITH_FP8_SINCE = (0, 32)

KvType = Literal["auto", "bf16", "fp8"]


class FitError(ValueError):
    """These settings cannot be served at all, whatever the memory."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one GPU of the deployment holds. GiB are 2**30 bytes, per GPU.

    kv_gib: negative when the weights alone are too large.
    kv_bytes_per_token: on one rank, before decode context parallelism divides it.
    kv_tokens: over the whole deployment, in full blocks.
    max_context: the longest single request; never above the model's own limit.
    concurrency: requests of max_context at once.
    """

    fits: bool
    weights_gib: float
    reserve_gib: float
    kv_gib: float
    kv_bytes_per_token: int
    kv_tokens: int
    max_context: int
    concurrency: float


def fit(
    config: Mapping[str, Any],
    gpu_gib: float,
    tp: int,
    dcp: int = 1,
    util: float = 0.92,
    batched_tokens: int = 2048,
    seqs: int = 64,
    kv_dtype: KvType = "auto",
    *,
    engine: str = "0.24.0",
    weights_bytes_per_gpu: float | None = None,
) -> Fit:
    """Plan one deployment on `tp` equal GPUs.

    config: a plain hub config.json. gpu_gib: as the driver reports it (an H100 80GB: 79.2 to 79.6).
    weights_bytes_per_gpu: exact, where a checkpoint's headers were read; computed otherwise.
    Raises FitError for what the engine refuses, ShapeError for a config it cannot read.
    """
    shape = shape_of(config)
    _refuse(shape, tp, dcp, kv_dtype, engine)
    weights = weights_bytes_per_gpu or weights_bytes(shape, tp)
    reserve = reserve_gib(shape, batched_tokens, seqs, engine)
    kv_gib = util * gpu_gib - weights / GIB - reserve
    element_bytes = 1 if kv_dtype == "fp8" else 2
    tokens = context_in(shape.cache, max(0.0, kv_gib) * GIB, tp, dcp, element_bytes)
    context = min(tokens, shape.max_context or tokens)
    return Fit(
        fits=context >= BLOCK_TOKENS,
        weights_gib=weights / GIB,
        reserve_gib=reserve,
        kv_gib=kv_gib,
        kv_bytes_per_token=sum(_token_bytes(c, tp, element_bytes) for c in shape.cache),
        kv_tokens=tokens,
        max_context=context,
        concurrency=tokens / context if context else 0.0,
    )


def weights_bytes(shape: Shape, tp: int) -> float:
    """Bytes of weights on one of `tp` ranks."""
    return sum(part.size_bytes / (min(tp, part.ways) if part.ways else tp) for part in shape.parts)


def reserve_gib(shape: Shape, batched_tokens: int, seqs: int, engine: str) -> float:
    """What the engine keeps free beside weights and cache."""
    tokens = RESERVE_GIB_PER_1024_TOKENS * batched_tokens / 1024 * shape.hidden / RESERVE_HIDDEN
    graphs = GRAPHS_GIB_AT_64 * max(0, min(seqs, 512) - 8) / 56
    charged = _version(engine) >= GRAPH_ESTIMATE_SINCE
    return RESERVE_GIB + tokens + (graphs if charged else -UNCHARGED_GIB)


def context_in(
    cache: tuple[CacheLayers, ...], room_bytes: float, tp: int, dcp: int, element_bytes: int
) -> int:
    """The most tokens one request can keep in `room_bytes` a GPU, in full blocks.

    A layer with a sliding window stops growing at its window.
    """
    growing = list(cache)
    fixed = 0.0
    for group in sorted((c for c in cache if c.window), key=lambda c: c.window or 0):
        per_token = sum(_token_bytes(c, tp, element_bytes) for c in growing) / dcp
        if (room_bytes - fixed) / per_token <= (group.window or 0):
            break
        growing.remove(group)
        fixed += _token_bytes(group, tp, element_bytes) * (group.window or 0) / dcp
    per_token = sum(_token_bytes(c, tp, element_bytes) for c in growing) / dcp
    if not per_token:
        return 2**31
    blocks = (room_bytes - fixed) / (per_token * BLOCK_TOKENS)
    return max(0, math.floor(blocks)) * BLOCK_TOKENS


def _token_bytes(group: CacheLayers, tp: int, element_bytes: int) -> int:
    elements = group.elements // min(tp, group.ways)
    return group.layers * (elements * element_bytes + group.extra_bytes)


def _refuse(shape: Shape, tp: int, dcp: int, kv_dtype: KvType, engine: str) -> None:
    if tp < 1 or shape.heads % tp:
        raise FitError(f"tensor parallel size {tp} does not divide {shape.heads} attention heads")
    if dcp < 1 or tp % dcp:
        raise FitError(
            f"decode context parallel size {dcp} does not divide tensor parallel size {tp}"
        )
    repeated = tp if shape.latent else max(1, tp // max(c.ways for c in shape.cache))
    if dcp > repeated:
        raise FitError(
            f"decode context parallel size {dcp}: only {repeated} ranks keep the same KV heads"
        )
    if dcp > 1 and kv_dtype == "fp8" and _version(engine) < DCP_WITH_FP8_SINCE:
        raise FitError(f"vLLM {engine} refuses an fp8 KV cache under decode context parallelism")


def _version(engine: str) -> tuple[int, ...]:
    return tuple(int(part) for part in engine.split(".")[:2])
