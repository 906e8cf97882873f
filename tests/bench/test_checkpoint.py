"""What loaders are measured on must be K2.5 in every name, type and byte."""

import json
import math
from pathlib import Path

import pytest
from safetensors import safe_open

from bench import checkpoint
from startup import manifest
from tests.conftest import ROOT

CONFIG = json.loads((ROOT / "profiles/configs/kimi-k2.5.json").read_text())["text_config"]
SMALL = CONFIG | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "n_routed_experts": 100,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "vocab_size": 512,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.make(folder, SMALL, threads=2)
    return folder


def test_checkpoint_weighs_what_the_hub_says_when_all_layers_are_asked_for():
    """595.15 GB on the hub, of which the vision tower, which is not written, is 0.94."""
    whole = sum(tensor.size for shard in checkpoint.shards(CONFIG) for tensor in shard)

    assert math.isclose(whole / 1e9, 595.15 - 0.94, abs_tol=0.02)


def test_shards_can_be_read_and_are_finite_when_written(made):
    """A loader that stumbles, or an answer that is not a number, would waste a GPU."""
    seen = set()
    for path in sorted((made / "weights").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118  # it is no dict
                seen.add(name)
                if name.endswith("weight_shape"):
                    packed = file.get_slice(name.replace("shape", "packed")).get_shape()
                    rows, columns = file.get_tensor(name)
                    assert packed == [rows, columns // 8]
    index = json.loads((made / "weights/model.safetensors.index.json").read_text())

    assert seen == set(index["weight_map"])
    assert "model.layers.1.mlp.experts.99.down_proj.weight_packed" in seen


def test_weights_are_small_and_scales_positive_when_filled():
    """Values are made by setting a bfloat16's exponent: two wrong bits and outputs are infinite."""
    import numpy

    random = numpy.random.Generator(numpy.random.SFC64(1))

    def values(kind):
        tensor = checkpoint.Tensor("x", "BF16", (1000,), kind)
        (words,) = checkpoint.content(tensor, random)
        return (words.astype("<u4") << 16).view("<f4")

    assert 2**-7 <= abs(values("weight")).min() <= abs(values("weight")).max() < 2**-6
    assert 2**-9 <= values("scale").min() <= values("scale").max() < 2**-8
    assert set(values("one")) == {1.0}


def test_manifest_names_every_file_when_written(made):
    """The plugin waits for the shards that it names."""
    files = manifest.parse((made / "weights.json").read_text())

    assert manifest.absent(files, made / "weights") == []
    assert {"config.json", "tokenizer.json"} <= {file.name for file in files}


def test_tokenizer_has_a_word_for_every_id_when_the_model_is_larger():
    """Random weights answer with any id; an answer of nothing fails the check."""
    vocabulary = checkpoint.tokenizer(4096)["model"]["vocab"]

    assert sorted(vocabulary.values()) == list(range(4096))
    assert {"<think>", "</think>", "<|tool_calls_section_begin|>"} <= set(vocabulary)
