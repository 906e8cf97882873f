"""Kimi Delta Attention: its weights, and the state that it keeps instead of a cache.

Shapes as in Kimi K3's published checkpoint. Other linear attentions are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mayfly.parts import Part, ShapeError, StateLayers
from mayfly.widths import BF16

FP32 = 4
NEEDED = ("kda_layers", "num_heads", "head_dim", "short_conv_kernel_size")
CONVOLVED = 3
"""Queries, keys and values each pass a short convolution."""


def layers(text: Mapping[str, Any]) -> tuple[int, ...]:
    """The layers of linear attention, from 0; none in most models. ShapeError: an unknown kind."""
    linear = text.get("linear_attn_config")
    other = text.get("linear_num_key_heads") or "linear_attention" in (
        text.get("layer_types") or ()
    )
    if other or (linear and not all(linear.get(name) for name in NEEDED)):
        raise ShapeError("linear attention: its state and its weights are not known to the planner")
    return tuple(layer - 1 for layer in linear["kda_layers"]) if linear else ()


def parts(text: Mapping[str, Any], at: tuple[int, ...]) -> tuple[Part, ...]:
    """Projections, gates and convolutions, in bf16: no published checkpoint quantises them."""
    if not at:
        return ()
    linear, hidden = text["linear_attn_config"], text["hidden_size"]
    heads, head = linear["num_heads"], linear["head_dim"]
    wide = heads * head
    full_gate = linear.get("use_full_rank_gate")
    by_head = (4 + bool(full_gate)) * hidden * wide + heads * hidden
    by_head += (1 if full_gate else 2) * wide * head
    narrow = (1 if full_gate else 2) * hidden * head
    convolutions = CONVOLVED * wide * linear["short_conv_kernel_size"] * FP32
    return (
        Part(
            name="linear attention heads",
            size_bytes=len(at) * (BF16 * by_head + convolutions),
            ways=0,
            at=at,
        ),
        Part(name="linear attention gates", size_bytes=len(at) * BF16 * narrow, ways=1, at=at),
    )


def states(text: Mapping[str, Any], at: tuple[int, ...]) -> StateLayers | None:
    """A matrix for each head in fp32, and what the convolutions look back on in bf16."""
    if not at:
        return None
    linear = text["linear_attn_config"]
    heads, head = linear["num_heads"], linear["head_dim"]
    looked_back = CONVOLVED * (linear["short_conv_kernel_size"] - 1) * heads * head
    return StateLayers(at=at, size_bytes=heads * head * head * FP32 + looked_back * int(BF16))
