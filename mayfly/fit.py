"""Does a model fit a machine, and how much context is left: computed before any money is spent.

    KV cache = utilisation x GPU memory - weights - reserve

The reserve (activations, CUDA graphs) is fitted to vLLM 0.24.0's own reports for ranks of three
models, latent and grouped, dense and of experts, on an H100 (docs/results/); expect +-0.3 GiB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mayfly.parts import CacheLayers, Shape, stages_of
from mayfly.shape import shape_of

GIB = 2**30
BLOCK_TOKENS = 16
BF16_BYTES = 2

# GiB. Latent attention keeps more: its workspace, and 0.16 that is loaded beyond the arithmetic's
# weights (71.23 for 71.07).
RESERVE_GIB, RESERVE_LATENT_GIB = 0.48, 0.35
# Activations of a prefill step, in bf16 numbers for each token, as multiples of the hidden size:
# for any model, and for each expert that a token goes to (into it and out of it).
WIDTHS, WIDTHS_PER_EXPERT = 4.3, 2.0
# The engine's estimate of its CUDA graphs. Larger decode batches mean more of them.
GRAPHS_GIB_AT_8, GRAPHS_GIB_AT_64 = 0.18, 0.36
# Before 0.21 the engine did not charge that estimate to the reserve, and kept less beside it.
GRAPH_ESTIMATE_SINCE = (0, 21)
KEPT_SINCE_GIB = 0.49
DCP_WITH_FP8_SINCE = (0, 32)
# The latent attention of GPUs before Hopper (TRITON_MLA) keeps partial results by sequence.
TRITON_MLA_GIB_PER_SEQUENCE = 6.76 / 256
HOPPER = 90

KvType = Literal["auto", "bf16", "fp8"]


class FitError(ValueError):
    """These settings cannot be served at all, whatever the memory."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the engine is started, as far as memory goes. util: of the GPU's whole memory.

    pp: pipeline stages, one a machine.
    """

    tp: int
    pp: int = 1
    dcp: int = 1
    util: float = 0.92
    batched_tokens: int = 2048
    seqs: int = 64
    kv_dtype: KvType = "auto"

    @property
    def element_bytes(self) -> int:
        return 1 if self.kv_dtype == "fp8" else 2


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one GPU of the deployment holds. GiB are 2**30 bytes, per GPU.

    stage: the model, or the pipeline stage that these figures are of: the one with the least room.
    kv_gib: negative when the weights alone are too large.
    kv_bytes_per_token: on one rank, before decode context parallelism divides it.
    kv_tokens: over the whole deployment, in full blocks.
    max_context: the longest single request; never above the model's own limit.
    concurrency: requests of max_context at once.
    """

    stage: Shape
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

    config: a plain hub config.json. gpu_gib: as torch reports it (an H100 80GB: 79.18), which is
    less than nvidia-smi's (79.65).
    weights_bytes_per_gpu: exact, where a checkpoint's headers were read; computed otherwise.
    Raises FitError for what the engine refuses, ShapeError for a config it cannot read.
    """
    shape = shape_of(config)
    setup = Setup(
        tp=tp, dcp=dcp, util=util, batched_tokens=batched_tokens, seqs=seqs, kv_dtype=kv_dtype
    )
    refuse(shape, setup, engine)
    weights = weights_bytes_per_gpu or weights_bytes(shape, tp)
    return fit_shape(shape, setup, gpu_gib, weights, reserve_gib(shape, setup, engine))


def fit_shape(shape: Shape, setup: Setup, gpu_gib: float, weights: float, reserve: float) -> Fit:
    """`fit` of one stage with everything at hand and nothing refused.

    weights: bytes a GPU; reserve: GiB.
    """
    kv_gib = setup.util * gpu_gib - weights / GIB - reserve
    states = setup.seqs * state_bytes(shape, setup)
    tokens = context_in(shape.cache, max(0.0, kv_gib * GIB - states), setup)
    context = min(tokens, shape.max_context or tokens)
    return Fit(
        stage=shape,
        fits=context >= BLOCK_TOKENS,
        weights_gib=weights / GIB,
        reserve_gib=reserve,
        kv_gib=kv_gib,
        kv_bytes_per_token=sum(_token_bytes(c, setup) for c in shape.cache),
        kv_tokens=tokens,
        max_context=context,
        concurrency=tokens / context if context else 0.0,
    )


def fit_stages(shape: Shape, setup: Setup, gpu_gib: float, reserve: float) -> Fit:
    """The stage with the least room: the engine gives all of them as many tokens as that one."""
    return min(
        (
            fit_shape(stage, setup, gpu_gib, weights_bytes(stage, setup.tp), reserve)
            for stage in stages_of(shape, setup.pp)
        ),
        key=lambda fit: (fit.kv_tokens, fit.kv_gib),
    )


def state_bytes(shape: Shape, setup: Setup) -> float:
    """What one request keeps on each GPU for layers of linear attention, however long it is."""
    if shape.states is None:
        return 0.0
    return len(shape.states.at) * shape.states.size_bytes / setup.tp


def weights_bytes(shape: Shape, tp: int) -> float:
    """Bytes of weights on one of `tp` ranks."""
    return sum(part.size_bytes / (min(tp, part.ways) if part.ways else tp) for part in shape.parts)


def reserve_gib(shape: Shape, setup: Setup, engine: str, capability: int = HOPPER) -> float:
    """What the engine keeps free beside weights and cache. capability: CUDA's, 9.0 as 90."""
    more = max(0, min(setup.seqs, 512) - 8) / 56
    graphs = GRAPHS_GIB_AT_8 + more * (GRAPHS_GIB_AT_64 - GRAPHS_GIB_AT_8)
    charged = version(engine) >= GRAPH_ESTIMATE_SINCE
    partial = TRITON_MLA_GIB_PER_SEQUENCE * setup.seqs
    return (
        RESERVE_GIB
        + (RESERVE_LATENT_GIB if shape.latent else 0.0)
        + activations_gib(shape, setup.batched_tokens)
        + (graphs if charged else -KEPT_SINCE_GIB)
        + (partial if shape.latent and capability < HOPPER else 0.0)
    )


def activations_gib(shape: Shape, tokens: int) -> float:
    """What a prefill step of that many tokens takes."""
    widths = WIDTHS + WIDTHS_PER_EXPERT * shape.experts_per_token
    return tokens * widths * shape.hidden * BF16_BYTES / GIB


def context_in(cache: tuple[CacheLayers, ...], room_bytes: float, setup: Setup) -> int:
    """The most tokens one request can keep in `room_bytes` a GPU, in full blocks.

    A layer with a sliding window stops growing at its window.
    """
    growing = list(cache)
    fixed = 0.0
    for group in sorted((c for c in cache if c.window), key=lambda c: c.window or 0):
        per_token = sum(_token_bytes(c, setup) for c in growing) / setup.dcp
        if (room_bytes - fixed) / per_token <= (group.window or 0):
            break
        growing.remove(group)
        fixed += _token_bytes(group, setup) * (group.window or 0) / setup.dcp
    per_token = sum(_token_bytes(c, setup) for c in growing) / setup.dcp
    if not per_token:
        return 2**31
    blocks = (room_bytes - fixed) / (per_token * BLOCK_TOKENS)
    return max(0, math.floor(blocks)) * BLOCK_TOKENS


def request_bytes(shape: Shape, tokens: int, setup: Setup) -> float:
    """Bytes of KV cache that one request of `tokens` keeps on each GPU, in full blocks."""
    whole = math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS
    kept = sum(_token_bytes(c, setup) * min(whole, c.window or whole) for c in shape.cache)
    return kept / setup.dcp + state_bytes(shape, setup)


def _token_bytes(group: CacheLayers, setup: Setup) -> int:
    elements = group.elements // min(setup.tp, group.ways)
    return group.layers * (elements * setup.element_bytes + group.extra_bytes)


def refuse(shape: Shape, setup: Setup, engine: str, capability: int = HOPPER) -> None:
    """FitError for what the engine refuses whatever the memory."""
    tp, dcp = setup.tp, setup.dcp
    _refuse_tp(shape, tp)
    if dcp < 1 or tp % dcp:
        raise FitError(
            f"decode context parallel size {dcp} does not divide tensor parallel size {tp}"
        )
    if dcp > repeated_ranks(shape, tp):
        raise FitError(
            f"decode context parallel size {dcp}: only {repeated_ranks(shape, tp)} ranks keep "
            "the same KV heads"
        )
    if setup.kv_dtype != "fp8":
        return
    if capability < 89:
        raise FitError("an fp8 KV cache needs a GPU of compute capability 8.9 (L4, H100) or newer")
    if dcp > 1 and version(engine) < DCP_WITH_FP8_SINCE:
        raise FitError(f"vLLM {engine} refuses an fp8 KV cache under decode context parallelism")


def _refuse_tp(shape: Shape, tp: int) -> None:
    for cut in shape.cuts:
        if tp < 1 or cut.size % tp:
            raise FitError(f"tensor parallel size {tp} does not divide {cut.size} {cut.name}")
        if cut.size // tp % cut.unit:
            raise FitError(
                f"tensor parallel size {tp} leaves {cut.size // tp} of {cut.name} to a GPU, "
                f"no multiple of the weights' quantisation block of {cut.unit}"
            )
    few, many = sorted((shape.kv_heads, tp))
    if not shape.latent and many % few:
        raise FitError(f"tensor parallel size {tp} does not go with {shape.kv_heads} KV heads")


def repeated_ranks(shape: Shape, tp: int) -> int:
    """How many of `tp` ranks keep the same KV heads: the most that context parallelism can use.

    One beside linear attention: vLLM's cache for both kinds asserts that nothing is shared out.
    """
    if shape.states:
        return 1
    return tp if shape.latent else max(1, tp // shape.kv_heads)


def version(engine: str) -> tuple[int, ...]:
    """ "0.24.0" -> (0, 24)."""
    return tuple(int(part) for part in engine.split(".")[:2])
