"""Exact sizes from safetensors headers: the arithmetic's second witness."""

import json
import math
import struct

import pytest

from local import checkpoint as made
from mayfly.checkpoint import FIRST_READ, in_bucket, in_folder, tensors, weights_bytes_per_gpu
from mayfly.errors import WrongInputError
from mayfly.fit import weights_bytes
from mayfly.shape import shape_of
from tests.conftest import ROOT


def shard(folder, name, sizes):
    """A safetensors file with a header and no data: no weight is read."""
    start, header = 0, {"__metadata__": {"format": "pt"}}
    for tensor, size in sizes.items():
        header[tensor] = {"dtype": "BF16", "shape": [size], "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    (folder / name).write_bytes(struct.pack("<Q", len(text)) + text)


def llama_tensors(config):
    """Names and bytes as a Llama checkpoint has them, all bf16."""
    hidden, head = config["hidden_size"], config["head_dim"]
    heads, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    inter, vocabulary = config["intermediate_size"], config["vocab_size"]
    sizes = {
        "model.embed_tokens.weight": vocabulary * hidden,
        "lm_head.weight": vocabulary * hidden,
        "model.norm.weight": hidden,
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        sizes |= {
            f"{prefix}.self_attn.q_proj.weight": heads * hidden,
            f"{prefix}.self_attn.k_proj.weight": kv * hidden,
            f"{prefix}.self_attn.v_proj.weight": kv * hidden,
            f"{prefix}.self_attn.o_proj.weight": heads * hidden,
            f"{prefix}.mlp.gate_proj.weight": inter * hidden,
            f"{prefix}.mlp.up_proj.weight": inter * hidden,
            f"{prefix}.mlp.down_proj.weight": inter * hidden,
            f"{prefix}.input_layernorm.weight": hidden,
        }
    return {name: 2 * size for name, size in sizes.items()}


@pytest.mark.parametrize("tp", [1, 8, 16])
def test_headers_agree_with_the_arithmetic_when_the_checkpoint_is_whole(tmp_path, tp):
    """Above 8 ranks the key heads are repeated: both witnesses must see it."""
    config = json.loads((ROOT / "profiles/configs/llama-70b.json").read_text())
    shape, sizes = shape_of(config), llama_tensors(config)
    half = len(sizes) // 2
    shard(tmp_path, "a.safetensors", dict(list(sizes.items())[:half]))
    shard(tmp_path, "b.safetensors", dict(list(sizes.items())[half:]))

    exact = weights_bytes_per_gpu(in_folder(tmp_path), shape, tp)

    assert exact == pytest.approx(weights_bytes(shape, tp), rel=0.001)


def test_headers_tell_replicated_from_shared_when_attention_is_latent(tmp_path):
    """A rank holds all of the latents, an eighth of the experts, and no vision tower."""
    shape = shape_of(json.loads((ROOT / "profiles/configs/kimi-k2.5.json").read_text()))
    absorbed = sum(part.size_bytes for part in shape.parts if part.made_at_load) / 8
    layer = "language_model.model.layers.1"
    shard(
        tmp_path,
        "a.safetensors",
        {
            f"{layer}.self_attn.kv_a_proj_with_mqa.weight": 1000,
            f"{layer}.self_attn.kv_b_proj.weight": 8000,
            f"{layer}.mlp.experts.7.down_proj.weight_packed": 80_000,
            f"{layer}.mlp.gate.weight": 500,
            f"{layer}.mlp.shared_experts.up_proj.weight": 800,
            "vision_tower.encoder.blocks.0.wqkv.weight": 10**9,
        },
    )

    exact = weights_bytes_per_gpu(in_folder(tmp_path), shape, 8) - absorbed

    assert exact == pytest.approx(1000 + 1000 + 10_000 + 500 + 100)


def test_headers_of_a_made_checkpoint_are_all_read(tmp_path):
    """The layout is Kimi K2.5's own, shard by shard; every byte is some tensor's."""
    made.make(tmp_path, 16)
    shards = sorted(tmp_path.glob("*.safetensors"))
    bodies = sum(
        path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little") for path in shards
    )

    assert len(shards) == 64
    assert math.fsum(size for _, size in tensors(in_folder(tmp_path))) == bodies


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no safetensors header"),
        (struct.pack("<Q", 10) + b"{", "has no safetensors header"),
        (struct.pack("<Q", 2**60) + b"{}", "has no safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "has no safetensors header"),
    ],
)
def test_half_a_checkpoint_is_refused_when_its_header_is_no_header(tmp_path, content, says):
    """Half a download must not become a plan."""
    (tmp_path / "a.safetensors").write_bytes(content)

    with pytest.raises(WrongInputError, match=says):
        list(tensors(in_folder(tmp_path)))


class Bucket:
    """A folder as a bucket's storage, with what was asked of it."""

    def __init__(self, folder):
        self.folder, self.reads = folder, []
        self.storage = self

    def list(self, bucket, prefix):
        assert (bucket, prefix) == ("weights", "models/m/1/")
        names = [path.name for path in self.folder.iterdir()]
        yield from ({"name": prefix + name} for name in [*names, "config.json", "x/y.safetensors"])

    def read(self, bucket, name, start, end):
        self.reads.append((name.rpartition("/")[2], start, end))
        return (self.folder / name.rpartition("/")[2]).read_bytes()[start:end]


def test_headers_in_a_bucket_say_what_those_in_a_folder_say(tmp_path):
    """600 GB need not come to the desk for a plan: of each shard its beginning is asked for."""
    made.make(tmp_path, 16)
    bucket = Bucket(tmp_path)

    found = list(tensors(in_bucket(bucket, "gs://weights/models/m/1/")))

    assert found == list(tensors(in_folder(tmp_path)))
    assert [start for _, start, _ in bucket.reads] == [0] * 64


def test_long_header_in_a_bucket_is_read_to_its_end(tmp_path):
    """Shards of many small experts have more than a megabyte of it."""
    sizes = {f"model.layers.{n}.mlp.experts.{n}.up_proj.weight_packed": 8 for n in range(14_000)}
    shard(tmp_path, "a.safetensors", sizes)
    bucket = Bucket(tmp_path)

    found = dict(tensors(in_bucket(bucket, "gs://weights/models/m/1")))

    assert found == sizes
    assert bucket.reads[1][1] == FIRST_READ
