"""The checkpoint is read here with the libraries that read a real one."""

import json
import zlib

import pytest
from safetensors import safe_open

from local import checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return checkpoint.make(tmp_path_factory.mktemp("checkpoint"), 32)


def test_checkpoint_index_agrees_with_every_shard_when_read_by_safetensors(made):
    """Whoever loads it must find each tensor where the index says, whole."""
    index = json.loads((made / "model.safetensors.index.json").read_text())

    found = {}
    for shard in sorted(set(index["weight_map"].values())):
        with safe_open(made / shard, "numpy") as file:
            found |= dict.fromkeys(file.keys(), shard)

    assert found == index["weight_map"]
    assert len(set(found.values())) == 64


def test_checkpoint_weighs_what_was_asked_for_and_does_not_compress(made):
    """Zeros would make every measured rate a lie."""
    sizes = [path.stat().st_size for path in made.glob("*.safetensors")]
    sample = (made / checkpoint.shard_name(7)).read_bytes()

    assert sum(sizes) == pytest.approx(32 * checkpoint.MIB, rel=0.05)
    assert len(zlib.compress(sample, 1)) > 0.95 * len(sample)


def test_checkpoint_is_the_same_when_made_again(made, tmp_path):
    """Manifests and caches of an earlier run stay valid."""
    again = checkpoint.make(tmp_path, 32)

    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((made / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_checkpoint_config_has_the_architecture_that_the_planner_reads(made):
    """Layer count and latent width decide the cache size."""
    text = json.loads((made / "config.json").read_text())["text_config"]

    assert tuple(
        text[key]
        for key in ("num_hidden_layers", "kv_lora_rank", "qk_rope_head_dim", "n_routed_experts")
    ) == (61, 512, 64, 384)


def test_checkpoint_is_refused_when_too_small(tmp_path):
    """Sixty-four shards of nothing would test nothing."""
    with pytest.raises(ValueError, match="16 at least"):
        checkpoint.make(tmp_path, 4)
