"""What a model is made of, read from its hub config.json.

Pure arithmetic; no checkpoint needed. Parts follow what tensor parallelism shards and what it
replicates in vLLM. Vision towers are not counted: the profiles serve text only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mayfly import shape_linear
from mayfly.parts import CacheLayers, Cut, Part, Shape, ShapeError
from mayfly.widths import BF16, Width


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
    quantization = text.get("quantization_config") or config.get("quantization_config") or {}
    width = Width(quantization)
    linear = shape_linear.layers(text)
    return Shape(
        layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=text.get("num_key_value_heads", text["num_attention_heads"]),
        hidden=text["hidden_size"],
        max_context=text.get("max_position_embeddings", 0),
        experts_per_token=_experts_per_token(text),
        parts=(
            *_attention(text, width),
            *shape_linear.parts(text, linear),
            *_mlp(text, width),
            *_vocabulary(text, width),
        ),
        cache=_cache(text),
        states=shape_linear.states(text, linear),
        cuts=_cuts(text, quantization),
        latent="kv_lora_rank" in text,
        kv_type="fp8" if quantization.get("kv_cache_scheme") else "",
    )


def _cuts(text: Mapping[str, Any], quantization: Mapping[str, Any]) -> tuple[Cut, ...]:
    """What must divide; block-quantised weights only at a block's edge."""
    block = quantization.get("weight_block_size")
    unit = int(block[0]) if isinstance(block, list) and block else 1
    named = {
        "attention heads": (text["num_attention_heads"], 1),
        "an expert's columns": (_expert_columns(text), unit),
        "the MLP's columns": (text.get("intermediate_size", 0), unit),
    }
    if _experts(text) and not _dense_layers(text):
        del named["the MLP's columns"]  # written in the config, used by no layer
    return tuple(Cut(name=n, size=size, unit=u) for n, (size, u) in named.items() if size)


def _experts(text: Mapping[str, Any]) -> int:
    return _first(text, "n_routed_experts", "num_local_experts", "num_experts")


def _experts_per_token(text: Mapping[str, Any]) -> int:
    if not _experts(text):
        return 0
    return _first(text, "num_experts_per_tok", "num_experts_per_token", "experts_per_token")


def _expert_columns(text: Mapping[str, Any]) -> int:
    if not _experts(text):
        return 0
    return int(text.get("moe_intermediate_size") or text["intermediate_size"])


def _head_dim(text: Mapping[str, Any]) -> int:
    return int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def _attention(text: Mapping[str, Any], width: Width) -> tuple[Part, ...]:
    hidden, heads, at = text["hidden_size"], text["num_attention_heads"], _attending(text)
    byte = len(at) * width.of("model.layers.1.self_attn.o_proj")
    if "kv_lora_rank" not in text:
        head_dim, kv_heads = _head_dim(text), text.get("num_key_value_heads", heads)
        both = 2 * hidden * head_dim
        return (
            Part(name="attention q, o", size_bytes=byte * both * heads, ways=0, at=at),
            Part(name="attention k, v", size_bytes=byte * both * kv_heads, ways=kv_heads, at=at),
        )
    latent, rope, nope = text["kv_lora_rank"], text["qk_rope_head_dim"], text["qk_nope_head_dim"]
    value, query = text["v_head_dim"], text.get("q_lora_rank")
    per_head = (query or hidden) * (nope + rope) + latent * (nope + value) + value * hidden
    if text.get("mla_use_output_gate"):
        per_head += value * hidden
    shared = hidden * (latent + rope) + (hidden * query if query else 0)
    # The engine keeps W_UK and W_UV once more, in bf16, for attention in the latent space.
    absorbed = BF16 * len(at) * heads * latent * (nope + value)
    return (
        Part(name="attention heads", size_bytes=byte * heads * per_head, ways=0, at=at),
        Part(name="attention latents", size_bytes=byte * shared, ways=1, at=at),
        Part(name="absorbed W_UK, W_UV", size_bytes=absorbed, ways=0, at=at, made_at_load=True),
    )


def _mlp(text: Mapping[str, Any], width: Width) -> tuple[Part, ...]:
    hidden, every = text["hidden_size"], range(text["num_hidden_layers"])
    dense = _dense_layers(text) if _experts(text) else tuple(every)
    columns = len(dense) * 3 * hidden * text.get("intermediate_size", 0)
    found = [
        Part(
            name="dense MLP",
            size_bytes=columns * width.of("model.layers.0.mlp.gate_proj"),
            ways=0,
            at=dense,
        )
    ]
    if _experts(text):
        found += _sparse(text, width, tuple(layer for layer in every if layer not in dense))
    return tuple(part for part in found if part.at)


def _sparse(text: Mapping[str, Any], width: Width, at: tuple[int, ...]) -> list[Part]:
    hidden, experts, inter = text["hidden_size"], _experts(text), _expert_columns(text)
    # Some experts work in a narrower space than the layer: into it and back, in bf16, on each rank.
    latent = text.get("routed_expert_hidden_size") or 0
    shared = (
        _first(text, "n_shared_experts", "num_shared_experts") * inter
        or text.get("shared_expert_intermediate_size")
        or 0
    )
    prefix = "model.layers.1.mlp"
    routed = 3 * (latent or hidden) * inter * width.of(f"{prefix}.experts.0.gate_proj")
    beside = 3 * hidden * shared * width.of(f"{prefix}.shared_experts.gate_proj")
    into = 2 * hidden * latent * BF16
    router = hidden * experts * BF16
    named = (
        ("routed experts", experts * routed, 0),
        ("shared experts", beside, 0),
        ("experts' latents", into, 1),
        ("router", router, 1),
    )
    return [
        Part(name=name, size_bytes=len(at) * size, ways=ways, at=at)
        for name, size, ways in named
        if size
    ]


def _first(text: Mapping[str, Any], *names: str) -> int:
    return next((int(text[name]) for name in names if text.get(name)), 0)


def _dense_layers(text: Mapping[str, Any]) -> tuple[int, ...]:
    """The layers without experts, in a model that has some."""
    layers = range(text["num_hidden_layers"])
    if "mlp_only_layers" in text:
        step, dense = text.get("decoder_sparse_step", 1), text["mlp_only_layers"]
        return tuple(layer for layer in layers if layer in dense or (layer + 1) % step)
    return tuple(layers[: int(text.get("first_k_dense_replace", 0))])


def _vocabulary(text: Mapping[str, Any], width: Width) -> tuple[Part, ...]:
    size, last = text["vocab_size"] * text["hidden_size"], text["num_hidden_layers"] - 1
    if text.get("tie_word_embeddings"):
        both = (0, last)
        return (Part(name="embeddings", size_bytes=BF16 * size, ways=0, at=both, whole=True),)
    head = width.of("lm_head") * size
    return (
        Part(name="embeddings", size_bytes=BF16 * size, ways=0, at=(0,)),
        Part(name="lm_head", size_bytes=head, ways=0, at=(last,)),
    )


def _kinds(text: Mapping[str, Any]) -> list[str]:
    layers = text["num_hidden_layers"]
    if linear := shape_linear.layers(text):
        return [
            "linear_attention" if layer in linear else "full_attention" for layer in range(layers)
        ]
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


def _layers_of(kinds: list[str], kind: str) -> tuple[int, ...]:
    return tuple(layer for layer, found in enumerate(kinds) if found == kind)


def _attending(text: Mapping[str, Any]) -> tuple[int, ...]:
    kinds = _kinds(text)
    return tuple(
        n for n, kind in enumerate(kinds) if kind in ("full_attention", "sliding_attention")
    )


def _cache(text: Mapping[str, Any]) -> tuple[CacheLayers, ...]:
    kinds = _kinds(text)
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
    full, sliding = (_layers_of(kinds, f"{kind}_attention") for kind in ("full", "sliding"))
    layers = (
        CacheLayers(at=full, elements=elements, ways=ways, extra_bytes=extra),
        CacheLayers(at=sliding, elements=elements, ways=ways, window=text.get("sliding_window")),
    )
    return tuple(group for group in layers if group.at)
