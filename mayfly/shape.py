"""What a model is made of, from its hub config.json: parameters by part, and KV cache by layer.

Pure arithmetic; no checkpoint needed. Parts follow what tensor parallelism shards and what it
replicates in vLLM. Vision towers are not counted: the profiles serve text only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BF16 = 2.0


class ShapeError(ValueError):
    """The config lacks what the arithmetic needs, or names something it does not know."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Weights of one kind, over all layers.

    size_bytes: on one GPU without tensor parallelism.
    ways: over at most how many ranks the engine can cut it; 1 = replicated, 0 = no limit.
    made_at_load: no file holds it.
    """

    name: str
    size_bytes: float
    ways: int
    made_at_load: bool = False


@dataclass(frozen=True, kw_only=True)
class CacheLayers:
    """Layers whose KV cache is alike.

    elements: numbers kept per token, layer and rank before sharding.
    ways: over how many ranks the engine cuts them; 1 = replicated on every rank.
    window: tokens kept at most; None = all.
    extra_bytes: per token and layer whatever the cache's type (a sparse-attention indexer's keys).
    """

    layers: int
    elements: int
    ways: int
    window: int | None = None
    extra_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A width that tensor parallelism divides: each share must be a multiple of `unit`."""

    name: str
    size: int
    unit: int = 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """kv_type: "fp8" where the checkpoint itself asks for an fp8 KV cache, else ""."""

    heads: int
    kv_heads: int
    hidden: int
    max_context: int
    parts: tuple[Part, ...]
    cache: tuple[CacheLayers, ...]
    cuts: tuple[Cut, ...]
    latent: bool
    kv_type: str


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read a plain hub config.json; a multimodal one is read by its `text_config`."""
    text = {**config, **config["text_config"]} if "text_config" in config else dict(config)
    missing = [
        name
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        if name not in text
    ]
    if missing:
        raise ShapeError(f"config.json has no {', '.join(missing)}: is it a language model's?")
    if text.get("linear_attn_config") or text.get("linear_num_key_heads"):
        raise ShapeError("linear attention: its state and its weights are not known to the planner")
    quantization = text.get("quantization_config") or config.get("quantization_config") or {}
    width = _Width(quantization)
    return Shape(
        heads=text["num_attention_heads"],
        kv_heads=text.get("num_key_value_heads", text["num_attention_heads"]),
        hidden=text["hidden_size"],
        max_context=text.get("max_position_embeddings", 0),
        parts=(*_attention(text, width), *_mlp(text, width), *_vocabulary(text, width)),
        cache=_cache(text),
        cuts=_cuts(text, quantization),
        latent="kv_lora_rank" in text,
        kv_type="fp8" if quantization.get("kv_cache_scheme") else "",
    )


class _Width:
    """Bytes per parameter of a module, by the checkpoint's quantisation."""

    def __init__(self, quantization: Mapping[str, Any]) -> None:
        self._quantized = _quantized_bytes(quantization)
        self._ignored: list[str] = [
            *(quantization.get("ignore") or []),
            *(quantization.get("exclude_modules") or []),
            *(quantization.get("modules_to_not_convert") or []),
        ]

    def of(self, module: str) -> float:
        if any(_matches(pattern, module) for pattern in self._ignored):
            return BF16
        return self._quantized


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    regex = re.escape(pattern).replace(r"\*", ".*")
    return re.fullmatch(rf"(.*\.)?{regex}(\..*)?", module) is not None


def _quantized_bytes(quantization: Mapping[str, Any]) -> float:
    """Bytes a parameter takes where it is quantised, scales included."""
    method = str(quantization.get("quant_method", "")).lower()
    if not quantization:
        return BF16
    if method == "fp8":
        return 1 + 4 / (128 * 128)
    if method == "mxfp4":
        return 0.5 + 1 / 32
    if method in ("modelopt", "modelopt_fp4", "nvfp4"):
        return 0.5 + 1 / 16 if "4" in str(quantization.get("quant_algo", "FP4")) else 1.0
    if method in ("awq", "gptq"):
        return float(quantization["bits"]) / 8 + 2.5 / float(quantization.get("group_size", 128))
    if method == "compressed-tensors":
        return _compressed(quantization)
    raise ShapeError(f"quant_method {method!r}: not known to the planner")


def _compressed(quantization: Mapping[str, Any]) -> float:
    weights = next(iter(quantization["config_groups"].values()))["weights"]
    scale_bytes = 1.0 if weights.get("type") == "float" and weights["num_bits"] == 4 else BF16
    group = weights.get("group_size")
    scales = scale_bytes / group if isinstance(group, int) and group > 0 else 0.0
    return float(weights["num_bits"]) / 8 + scales


def _cuts(text: Mapping[str, Any], quantization: Mapping[str, Any]) -> tuple[Cut, ...]:
    """What must divide; block-quantised weights only at a block's edge."""
    block = quantization.get("weight_block_size")
    unit = int(block[0]) if isinstance(block, list) and block else 1
    named = {
        "attention heads": (text["num_attention_heads"], 1),
        "an expert's columns": (_expert_columns(text), unit),
        "the MLP's columns": (text.get("intermediate_size", 0), unit),
    }
    if _experts(text) and not _dense_layers(text, text["num_hidden_layers"]):
        del named["the MLP's columns"]  # written in the config, used by no layer
    return tuple(Cut(name=n, size=size, unit=u) for n, (size, u) in named.items() if size)


def _experts(text: Mapping[str, Any]) -> int:
    return _first(text, "n_routed_experts", "num_local_experts", "num_experts")


def _expert_columns(text: Mapping[str, Any]) -> int:
    if not _experts(text):
        return 0
    return int(text.get("moe_intermediate_size") or text["intermediate_size"])


def _head_dim(text: Mapping[str, Any]) -> int:
    return int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def _attention(text: Mapping[str, Any], width: _Width) -> tuple[Part, ...]:
    hidden, heads, layers = text["hidden_size"], text["num_attention_heads"], _attending(text)
    byte = layers * width.of("model.layers.1.self_attn.o_proj")
    if "kv_lora_rank" not in text:
        head_dim, kv_heads = _head_dim(text), text.get("num_key_value_heads", heads)
        return (
            Part(name="attention q, o", size_bytes=byte * 2 * hidden * heads * head_dim, ways=0),
            Part(
                name="attention k, v",
                size_bytes=byte * 2 * hidden * kv_heads * head_dim,
                ways=kv_heads,
            ),
        )
    latent, rope, nope = text["kv_lora_rank"], text["qk_rope_head_dim"], text["qk_nope_head_dim"]
    value, query = text["v_head_dim"], text.get("q_lora_rank")
    per_head = (query or hidden) * (nope + rope) + latent * (nope + value) + value * hidden
    shared = hidden * (latent + rope) + (hidden * query if query else 0)
    # The engine keeps W_UK and W_UV once more, in bf16, for attention in the latent space.
    absorbed = BF16 * layers * heads * latent * (nope + value)
    return (
        Part(name="attention heads", size_bytes=byte * heads * per_head, ways=0),
        Part(name="attention latents", size_bytes=byte * shared, ways=1),
        Part(name="absorbed W_UK, W_UV", size_bytes=absorbed, ways=0, made_at_load=True),
    )


def _mlp(text: Mapping[str, Any], width: _Width) -> tuple[Part, ...]:
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    experts = _experts(text)
    dense_layers = _dense_layers(text, layers) if experts else layers
    dense = Part(
        name="dense MLP",
        size_bytes=dense_layers
        * 3
        * hidden
        * text.get("intermediate_size", 0)
        * width.of("model.layers.0.mlp.gate_proj"),
        ways=0,
    )
    if not experts:
        return (dense,)
    sparse = layers - dense_layers
    inter = _expert_columns(text)
    expert_width = width.of("model.layers.1.mlp.experts.0.gate_proj")
    shared = (
        _first(text, "n_shared_experts") * inter or text.get("shared_expert_intermediate_size") or 0
    )
    shared_width = width.of("model.layers.1.mlp.shared_experts.gate_proj")
    return (
        dense,
        Part(
            name="routed experts",
            size_bytes=sparse * experts * 3 * hidden * inter * expert_width,
            ways=0,
        ),
        Part(name="shared experts", size_bytes=sparse * 3 * hidden * shared * shared_width, ways=0),
        Part(name="router", size_bytes=sparse * hidden * experts * BF16, ways=1),
    )


def _first(text: Mapping[str, Any], *names: str) -> int:
    return next((int(text[name]) for name in names if text.get(name)), 0)


def _dense_layers(text: Mapping[str, Any], layers: int) -> int:
    if "mlp_only_layers" in text:
        step = text.get("decoder_sparse_step", 1)
        return int(len(text["mlp_only_layers"]) + (layers - layers // step))
    return int(text.get("first_k_dense_replace", 0))


def _vocabulary(text: Mapping[str, Any], width: _Width) -> tuple[Part, ...]:
    size = text["vocab_size"] * text["hidden_size"]
    embeddings = Part(name="embeddings", size_bytes=BF16 * size, ways=0)
    if text.get("tie_word_embeddings"):
        return (embeddings,)
    return (
        embeddings,
        Part(name="lm_head", size_bytes=width.of("lm_head") * size, ways=0),
    )


def _kinds(text: Mapping[str, Any]) -> list[str]:
    layers = text["num_hidden_layers"]
    if text.get("layer_types"):
        return list(text["layer_types"])
    if not text.get("sliding_window") or not text.get("use_sliding_window", True):
        return ["full_attention"] * layers
    if pattern := text.get("sliding_window_pattern"):
        return [
            "sliding_attention" if n % pattern else "full_attention" for n in range(1, layers + 1)
        ]
    full = min(layers, text.get("max_window_layers", 0))
    return ["full_attention"] * full + ["sliding_attention"] * (layers - full)


def _attending(text: Mapping[str, Any]) -> int:
    return sum(kind.endswith("attention") for kind in _kinds(text))


def _cache(text: Mapping[str, Any]) -> tuple[CacheLayers, ...]:
    kinds = _kinds(text)
    full, sliding = kinds.count("full_attention"), kinds.count("sliding_attention")
    unknown = set(kinds) - {"full_attention", "sliding_attention", "linear_attention"}
    if unknown:
        raise ShapeError(f"layer_types {sorted(unknown)}: not known to the planner")
    if "kv_lora_rank" in text:
        elements, ways = text["kv_lora_rank"] + text["qk_rope_head_dim"], 1
    else:
        ways = text.get("num_key_value_heads", text["num_attention_heads"])
        elements = 2 * ways * _head_dim(text)
    # An indexer keeps one fp8 key a token, with a 4-byte scale for each 128 numbers.
    index = text.get("index_head_dim") or 0
    extra = index + 4 * (index // 128)
    layers = (
        CacheLayers(layers=full, elements=elements, ways=ways, extra_bytes=extra),
        CacheLayers(
            layers=sliding, elements=elements, ways=ways, window=text.get("sliding_window")
        ),
    )
    return tuple(group for group in layers if group.layers)
