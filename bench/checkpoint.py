"""Write a checkpoint with Kimi K2.5's tensors at full width and a few of its layers, real numbers.

    python bench/checkpoint.py DIR --layers 5 [--config profiles/configs/kimi-k2.5.json]
    python bench/checkpoint.py DIR --rank-of 8      one rank's config and tokenizer, no tensors

For measuring loaders and starts with the real vLLM. DIR/weights gets the shards, the index, the
text model's config.json (no vision, so tensor names begin with `model.`) and a byte tokenizer;
DIR/weights.json the manifest. Five layers (one dense, four MoE) are 43 GB in 19 shards. The numbers
are random, small enough that outputs stay finite. They are not compressible, and mean nothing.
The manifest's crc32c are zeros: nothing that reads this checkpoint checks them.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mayfly.rank import rank_config  # noqa: E402

WIDTH_BYTES = {"BF16": 2, "F32": 4, "I32": 4}
GROUP = 32  # weights that share a scale
PACKED = 8  # 4-bit weights in an int32
EXPERTS_A_SHARD = 96
BLOCK_BYTES = 64 << 20

# bfloat16 bits: exponents such that 7168 products of random sign add up to about one.
WEIGHT_EXPONENT = 127 - 7
SCALE_EXPONENT = 127 - 9
ONE = 0x3F80

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
# What K2.5's tool and reasoning parsers look for.
SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "<think>",
    "</think>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header. kind says how it is filled."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str  # "weight", "scale", "packed", "shape", "one", "zero"

    @property
    def size(self) -> int:
        return prod(self.shape) * WIDTH_BYTES[self.dtype]


def matrix(name: str, rows: int, columns: int) -> Tensor:
    return Tensor(f"{name}.weight", "BF16", (rows, columns), "weight")


def norm(name: str, width: int) -> Tensor:
    return Tensor(f"{name}.weight", "BF16", (width,), "one")


def attention(config: dict[str, Any], layer: str) -> Iterator[Tensor]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    q_rank, kv_rank = config["q_lora_rank"], config["kv_lora_rank"]
    nope, rope, value = (config[f"{k}_head_dim"] for k in ("qk_nope", "qk_rope", "v"))
    yield norm(f"{layer}.input_layernorm", hidden)
    yield norm(f"{layer}.post_attention_layernorm", hidden)
    layer += ".self_attn"
    yield matrix(f"{layer}.q_a_proj", q_rank, hidden)
    yield norm(f"{layer}.q_a_layernorm", q_rank)
    yield matrix(f"{layer}.q_b_proj", heads * (nope + rope), q_rank)
    yield matrix(f"{layer}.kv_a_proj_with_mqa", kv_rank + rope, hidden)
    yield norm(f"{layer}.kv_a_layernorm", kv_rank)
    yield matrix(f"{layer}.kv_b_proj", heads * (nope + value), kv_rank)
    yield matrix(f"{layer}.o_proj", hidden, heads * value)


def mlp(name: str, hidden: int, width: int) -> Iterator[Tensor]:
    yield matrix(f"{name}.gate_proj", width, hidden)
    yield matrix(f"{name}.up_proj", width, hidden)
    yield matrix(f"{name}.down_proj", hidden, width)


def expert(name: str, hidden: int, width: int) -> Iterator[Tensor]:
    for part in mlp(name, hidden, width):
        name = part.name.removesuffix(".weight")
        rows, columns = part.shape
        yield Tensor(f"{name}.weight_packed", "I32", (rows, columns // PACKED), "packed")
        yield Tensor(f"{name}.weight_scale", "BF16", (rows, columns // GROUP), "scale")
        yield Tensor(f"{name}.weight_shape", "I32", (2,), "shape")


def shards(config: dict[str, Any]) -> Iterator[list[Tensor]]:
    """What lies in each shard, in the order of their names."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    experts = config["n_routed_experts"]
    yield [matrix("model.embed_tokens", vocabulary, hidden)]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        first = list(attention(config, layer))
        if index < config["first_k_dense_replace"]:
            yield [*first, *mlp(f"{layer}.mlp", hidden, config["intermediate_size"])]
            continue
        first.append(matrix(f"{layer}.mlp.gate", experts, hidden))
        bias = f"{layer}.mlp.gate.e_score_correction_bias"
        first.append(Tensor(bias, "F32", (experts,), "zero"))
        width = config["moe_intermediate_size"]
        first += mlp(f"{layer}.mlp.shared_experts", hidden, width * config["n_shared_experts"])
        for begin in range(0, experts, EXPERTS_A_SHARD):
            for number in range(begin, min(begin + EXPERTS_A_SHARD, experts)):
                first += expert(f"{layer}.mlp.experts.{number}", hidden, width)
            yield first
            first = []
    yield [norm("model.norm", hidden), matrix("lm_head", vocabulary, hidden)]


def in_file_order(tensors: list[Tensor]) -> list[Tensor]:
    """Widest type first, as safetensors lays them out: every tensor is aligned."""
    return sorted(tensors, key=lambda tensor: (-WIDTH_BYTES[tensor.dtype], tensor.name))


def header(tensors: list[Tensor]) -> bytes:
    """The safetensors header with its length in front. tensors: in file order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def content(tensor: Tensor, random: numpy.random.Generator) -> Iterator[numpy.ndarray]:
    """The tensor's bytes, in blocks."""
    if tensor.kind == "shape":
        rows, columns = SHAPES[tensor.name.rsplit(".", 2)[1]]
        yield numpy.array([rows, columns], "<i4")
        return
    if tensor.kind in ("one", "zero"):
        value = ONE if tensor.kind == "one" else 0
        width = WIDTH_BYTES[tensor.dtype]
        yield numpy.full(tensor.size // width, value, f"<u{width}")
        return
    for begin in range(0, tensor.size, BLOCK_BYTES):
        size = min(BLOCK_BYTES, tensor.size - begin)
        words = random.integers(0, 1 << 64, -(-size // 8), "<u8").view("<u2")[: size // 2]
        if tensor.kind == "weight":  # sign and mantissa stay random
            words = words & numpy.uint16(0x807F) | numpy.uint16(WEIGHT_EXPONENT << 7)
        elif tensor.kind == "scale":
            words = words & numpy.uint16(0x007F) | numpy.uint16(SCALE_EXPONENT << 7)
        yield words


SHAPES: dict[str, tuple[int, int]] = {}
"""Of a routed expert's matrices: what `weight_shape` says. Set once, by `make`."""


def write_shard(path: Path, tensors: list[Tensor], seed: int) -> int:
    random = numpy.random.Generator(numpy.random.SFC64(seed))
    ordered = in_file_order(tensors)
    with path.open("wb", buffering=0) as file:
        parts: Iterator[Any] = (part for t in ordered for part in content(t, random))
        pending: list[Any] = [header(ordered)]
        for part in parts:
            pending.append(part.data.cast("B"))
            if sum(len(piece) for piece in pending) >= BLOCK_BYTES:
                flush(file, pending)
                pending = []
        flush(file, pending)
    return path.stat().st_size


def flush(file: Any, pieces: list[Any]) -> None:
    data = memoryview(b"".join(pieces))
    while data:  # one write moves at most 2 GiB
        data = data[file.write(data) :]


def tokenizer(vocabulary: int) -> dict[str, Any]:
    """A byte-level tokenizer: every byte is a token; the other ids have a text but no way in."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = [chr(byte) for byte in shown] + [chr(256 + i) for i in range(len(hidden))]
    words = [*SPECIAL, *letters]
    words += [f"\u0120w{number}" for number in range(len(words), vocabulary)]
    levels = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": word, **flags, "normalized": False, "special": True}
            for i, word in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **levels},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **levels},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {word: i for i, word in enumerate(words[:vocabulary])},
            "merges": [],
        },
    }


def write_words(folder: Path, config: dict[str, Any]) -> None:
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer(config["vocab_size"]),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": config["max_position_embeddings"],
            "chat_template": TEMPLATE,
        },
    }
    for name, said in files.items():
        (folder / name).write_text(json.dumps(said))


def make(folder: Path, config: dict[str, Any], threads: int) -> int:
    """Write the checkpoint below folder; returns its bytes."""
    hidden, width = config["hidden_size"], config["moe_intermediate_size"]
    SHAPES.update(gate_proj=(width, hidden), up_proj=(width, hidden), down_proj=(hidden, width))
    weights = folder / "weights"
    weights.mkdir(parents=True)
    groups = list(shards(config))
    names = [f"model-{i + 1:05d}-of-{len(groups):06d}.safetensors" for i in range(len(groups))]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write_shard, [weights / n for n in names], groups, range(len(groups))))
    index = {t.name: name for name, group in zip(names, groups, strict=True) for t in group}
    whole = {
        "metadata": {"total_size": sum(t.size for group in groups for t in group)},
        "weight_map": index,
    }
    (weights / "model.safetensors.index.json").write_text(json.dumps(whole))
    write_words(weights, config)
    rows = [
        {"name": path.name, "size": path.stat().st_size, "crc32c": "AAAAAA==", "sha256": None}
        for path in sorted(weights.iterdir())
    ]
    said = {
        "format": 1,
        "source": "bench/checkpoint.py: random numbers, crc32c not computed",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": rows,
    }
    (folder / "weights.json").write_text(json.dumps(said, indent=1) + "\n")
    return sum(row["size"] for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rank-of", type=int, help="tensor parallel size")
    parser.add_argument("--config", type=Path, default=ROOT / "profiles/configs/kimi-k2.5.json")
    parser.add_argument("--threads", type=int, default=12)
    options = parser.parse_args()
    config = json.loads(options.config.read_text())
    config = config.get("text_config", config)
    if options.layers:
        config["num_hidden_layers"] = options.layers
    if options.rank_of:
        (options.folder / "weights").mkdir(parents=True)
        write_words(options.folder / "weights", rank_config(config, options.rank_of))
        return 0
    began = time.monotonic()
    size = make(options.folder, config, options.threads)
    took_s = time.monotonic() - began
    print(f"{size / 1e9:.2f} GB in {took_s:.1f} s in {options.folder}/weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
