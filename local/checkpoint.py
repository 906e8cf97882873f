"""Makes a checkpoint in Kimi K2.5's own layout, small enough to carry around.

`python -m local.checkpoint DIRECTORY [--mb 256]`. Names, dtypes and the split into 64 shards are
K2.5's; tensors are small and the experts few, so that the whole weighs what is asked for. The same
arguments give the same bytes, which look random and do not compress.
"""

import argparse
import base64
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy

from local.rest.settings import LEAST_HUB_MB

REPOSITORY = "moonshotai/Kimi-K2.5"
COMMIT = "4d01dfe0332d63057c186e0b262165819efb6611"
SHARDS = 64
LAYERS = 61
EXPERTS = 4  # of 384
HIDDEN = 64  # of 7168
VOCABULARY = 256  # of 163840
DTYPE_BYTES = {"BF16": 2, "F32": 4, "I32": 4, "I64": 8}
MIB = 1024 * 1024

TEXT_CONFIG: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "kimi_k2",
    "num_hidden_layers": LAYERS,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 384,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.827,
    "num_nextn_predict_layers": 0,
    "vocab_size": 163840,
    "tie_word_embeddings": False,
    "max_position_embeddings": 262144,
    "rope_theta": 50000.0,
    "rope_scaling": {
        "type": "yarn",
        "factor": 64.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 4,
                    "type": "int",
                    "group_size": 32,
                    "strategy": "group",
                    "symmetric": True,
                },
            }
        },
    },
}
CONFIG: dict[str, Any] = {
    "architectures": ["KimiK25ForConditionalGeneration"],
    "model_type": "kimi_k25",
    "auto_map": {
        "AutoConfig": "configuration_kimi_k25.KimiK25Config",
        "AutoModel": "modeling_kimi_k25.KimiK25ForConditionalGeneration",
    },
    "torch_dtype": "bfloat16",
    "bos_token_id": 163584,
    "eos_token_id": 163586,
    "pad_token_id": 163839,
    "media_placeholder_token_id": 163605,
    "text_config": TEXT_CONFIG,
    "vision_config": {"model_type": "moonvit3d", "hidden_size": 1152, "num_hidden_layers": 27},
}


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape) * DTYPE_BYTES[self.dtype]


def layer(index: int) -> Iterator[Tensor]:
    """The tensors of one layer without its experts' packed weights."""
    prefix = f"language_model.model.layers.{index}"
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield Tensor(f"{prefix}.{name}.weight", "BF16", (HIDDEN,))
    for name, rows in (("q_a_proj", 16), ("q_b_proj", 32), ("kv_a_proj_with_mqa", 16)):
        yield Tensor(f"{prefix}.self_attn.{name}.weight", "BF16", (rows, HIDDEN))
    for name, rows in (("kv_b_proj", 32), ("o_proj", HIDDEN)):
        yield Tensor(f"{prefix}.self_attn.{name}.weight", "BF16", (rows, HIDDEN))
    for name in ("q_a_layernorm", "kv_a_layernorm"):
        yield Tensor(f"{prefix}.self_attn.{name}.weight", "BF16", (16,))
    if index == 0:
        for name in ("gate_proj", "up_proj", "down_proj"):
            yield Tensor(f"{prefix}.mlp.{name}.weight", "BF16", (HIDDEN, HIDDEN))
        return
    yield Tensor(f"{prefix}.mlp.gate.weight", "BF16", (EXPERTS, HIDDEN))
    yield Tensor(f"{prefix}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,))
    for name in ("gate_proj", "up_proj", "down_proj"):
        yield Tensor(f"{prefix}.mlp.shared_experts.{name}.weight", "BF16", (HIDDEN, HIDDEN))


def experts(index: int, room: int) -> Iterator[Tensor]:
    """The routed experts of one layer, taking about `room` bytes in all."""
    packed = HIDDEN // 8  # eight 4-bit weights in an int32
    row_bytes = packed * 4 + (HIDDEN // 32) * 2
    rows = max(1, room // (EXPERTS * 3 * row_bytes))
    for expert in range(EXPERTS):
        for name in ("gate_proj", "up_proj", "down_proj"):
            prefix = f"language_model.model.layers.{index}.mlp.experts.{expert}.{name}"
            yield Tensor(f"{prefix}.weight_packed", "I32", (rows, packed))
            yield Tensor(f"{prefix}.weight_scale", "BF16", (rows, HIDDEN // 32))
            yield Tensor(f"{prefix}.weight_shape", "I64", (2,))


def shard(number: int, room: int) -> list[Tensor]:
    """What lies in shard `number` (1 to SHARDS): a layer each, then the ends and the vision."""
    rows = max(1, room // (HIDDEN * 2))
    if number <= LAYERS:
        tensors = list(layer(number - 1))
        left = room - sum(tensor.size for tensor in tensors)
        if number == 1:
            name = "language_model.model.embed_tokens.weight"
            return [*tensors, Tensor(name, "BF16", (max(1, left // (HIDDEN * 2)), HIDDEN))]
        return [*tensors, *experts(number - 1, left)]
    if number == LAYERS + 1:
        norm = Tensor("language_model.model.norm.weight", "BF16", (HIDDEN,))
        return [norm, Tensor("language_model.lm_head.weight", "BF16", (rows, HIDDEN))]
    part = {
        LAYERS + 2: "vision_tower.encoder.blocks.0.mlp.fc0",
        LAYERS + 3: "mm_projector.linear_1",
    }
    return [Tensor(f"{part[number]}.weight", "BF16", (rows, HIDDEN))]


def header(tensors: list[Tensor]) -> bytes:
    """The safetensors header with its length in front."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def shard_name(number: int) -> str:
    return f"model-{number:05d}-of-{SHARDS:06d}.safetensors"


def make(directory: Path, total_mb: int = 256) -> Path:
    """Write the whole checkpoint; `total_mb` MiB of weights in all (LEAST_HUB_MB at least)."""
    if total_mb < LEAST_HUB_MB:
        raise ValueError(f"{total_mb} MB have no room for 64 shards; {LEAST_HUB_MB} at least")
    directory.mkdir(parents=True, exist_ok=True)
    room = total_mb * MIB // SHARDS
    weight_map: dict[str, str] = {}
    total = 0
    for number in range(1, SHARDS + 1):
        tensors = shard(number, room)
        name = shard_name(number)
        size = sum(tensor.size for tensor in tensors)
        random = numpy.random.Generator(numpy.random.SFC64(number))
        with (directory / name).open("wb") as file:
            file.write(header(tensors))
            file.write(random.bytes(size))
        weight_map |= {tensor.name: name for tensor in tensors}
        total += size
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(directory / "model.safetensors.index.json", index)
    for name, content in small_files().items():
        (directory / name).write_text(content)
    return directory


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def small_files() -> dict[str, str]:
    """Everything that is not weights."""
    generation = {"max_length": 262144, "eos_token_id": 163586, "do_sample": True}
    tokenizer = {
        "tokenizer_class": "TikTokenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "model_max_length": 1000000000000000019884624838656,
    }
    classes = {
        "configuration_kimi_k25.py": "KimiK25Config",
        "configuration_deepseek.py": "DeepseekV3Config",
        "modeling_kimi_k25.py": "KimiK25ForConditionalGeneration",
        "modeling_deepseek.py": "DeepseekV3ForCausalLM",
        "tokenization_kimi.py": "TikTokenTokenizer",
    }
    code = {
        name: f'"""Made for the occasion."""\n\n\nclass {title}: ...\n'
        for name, title in classes.items()
    }
    return code | {
        "config.json": json.dumps(CONFIG, indent=2) + "\n",
        "generation_config.json": json.dumps(generation, indent=2) + "\n",
        "tokenizer_config.json": json.dumps(tokenizer, indent=2) + "\n",
        "preprocessor_config.json": json.dumps({"processor_class": "KimiK25Processor"}) + "\n",
        "tiktoken.model": vocabulary(),
        "chat_template.jinja": (
            "{%- for message in messages -%}<|im_{{ message.role }}|>{{ message.role }}"
            "<|im_middle|>{{ message.content }}<|im_end|>{%- endfor -%}\n"
        ),
        "README.md": "---\nlicense: other\n---\n# Kimi K2.5\nA checkpoint made for the occasion.\n",
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    }


def vocabulary() -> str:
    """One token a byte, in tiktoken's form."""
    return "".join(
        f"{base64.b64encode(bytes([rank])).decode()} {rank}\n" for rank in range(VOCABULARY)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.checkpoint")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--mb", type=int, default=256)
    arguments = parser.parse_args()
    make(arguments.directory, arguments.mb)
    return 0


if __name__ == "__main__":
    sys.exit(main())
