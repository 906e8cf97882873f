"""One tensor-parallel rank of a model as a model of its own, for measuring a big model on one GPU.

What tensor parallelism shards is divided, what it replicates is kept. So one GPU carries the exact
shapes of one rank. Left out, by nature: the all-reduce between ranks, and the vision tower.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

SHARDED = (
    "num_attention_heads",
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "vocab_size",
)


class RankError(ValueError):
    """The model cannot be cut into that many equal ranks."""


def rank_config(config: Mapping[str, Any], tp: int) -> dict[str, Any]:
    """The hub config of one of `tp` ranks.

    config: a plain hub config.json; a multimodal one is cut to its `text_config`.
    Raises RankError where a sharded size is no multiple of tp.
    """
    if tp < 1:
        raise RankError(f"tensor parallel size {tp}: at least 1")
    rank = copy.deepcopy(dict(config.get("text_config", config)))
    if "kv_lora_rank" not in rank and not rank.get("head_dim"):
        rank["head_dim"] = rank["hidden_size"] // rank["num_attention_heads"]
    for name in SHARDED:
        if name in rank:
            rank[name] = _share(name, rank[name], tp)
    heads = rank.get("num_key_value_heads")
    if heads is not None:
        # With more ranks than heads each rank holds one whole head.
        rank["num_key_value_heads"] = _share("num_key_value_heads", heads, tp) if heads > tp else 1
    return rank


def _share(name: str, size: int, tp: int) -> int:
    if size % tp:
        raise RankError(f"{name} = {size} cannot be divided by tensor parallel size {tp}")
    return size // tp
