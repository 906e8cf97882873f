"""A checkpoint's exact size on a GPU, from its safetensors headers; no weight is read.

A safetensors file begins with 8 bytes, the length of a JSON header that names every tensor's type,
shape and place.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mayfly.errors import WrongInputError
from mayfly.parts import Shape

LONGEST_HEADER = 100_000_000
"""What the safetensors library itself accepts, in bytes."""

# The first that is found in a tensor's name says how the engine cuts it: 0 = over all ranks,
# 1 = not at all, -1 = over as many as there are KV heads; None = not loaded with text only.
RULES: tuple[tuple[str, int | None], ...] = (
    (r"vision|visual|mm_projector|multi_modal", None),
    (r"norm", 1),
    (r"self_attn\.(q_a_proj|kv_a_proj)", 1),
    (r"self_attn\.kv_b_proj", 0),
    (r"self_attn\.(k_proj|v_proj)", -1),
    (r"self_attn\.", 0),
    (r"\.experts\.", 0),
    (r"mlp\.gate\.|router|shared_expert_gate", 1),
    (r"mlp\.|shared_expert", 0),
    (r"embed_tokens|lm_head", 0),
)


def weights_bytes_per_gpu(folder: Path, shape: Shape, tp: int) -> float:
    """Bytes of the checkpoint in `folder` on one of `tp` ranks. WrongInputError if it has none.

    What the engine makes at load (absorbed projections) comes from the arithmetic.
    """
    kv_ways = 1 if shape.latent else shape.kv_heads
    total = sum(part.size_bytes / tp for part in shape.parts if part.made_at_load)
    for name, size in tensors(folder):
        ways = next((ways for rule, ways in RULES if re.search(rule, name)), 1)
        if ways is not None:
            total += size / (tp if ways == 0 else min(tp, kv_ways if ways < 0 else ways))
    return total


def tensors(folder: Path) -> Iterator[tuple[str, int]]:
    """Each tensor's name and bytes, over all shards."""
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise WrongInputError(
            f"{folder} holds no *.safetensors.", "Nothing was planned.", "Name a model's folder."
        )
    for shard in shards:
        for name, entry in _header(shard).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                yield name, int(end) - int(start)


def _header(shard: Path) -> Mapping[str, Any]:
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, LONGEST_HEADER))
    try:
        header = json.loads(text) if len(text) == length else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise WrongInputError(f"{shard} has no safetensors header: is it whole?")
    return header
