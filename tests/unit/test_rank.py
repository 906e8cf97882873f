"""One rank's shapes: a wrong one would make every measured figure of a big model a lie."""

import json

import pytest

from mayfly.rank import RankError, rank_config


@pytest.fixture
def kimi(project_root):
    return json.loads((project_root / "profiles/configs/kimi-k2.5.json").read_text())


def test_rank_divides_what_is_sharded_and_keeps_what_is_replicated(kimi):
    """Latent projections are replicated on every rank; heads, experts and vocabulary are not."""
    rank = rank_config(kimi, 8)

    assert rank["num_attention_heads"] == 8
    assert rank["moe_intermediate_size"] == 256
    assert rank["intermediate_size"] == 2304
    assert rank["vocab_size"] == 20480
    assert (rank["kv_lora_rank"], rank["q_lora_rank"], rank["hidden_size"]) == (512, 1536, 7168)
    assert rank["n_routed_experts"] == 384


def test_rank_leaves_the_given_config_alone(kimi):
    """The planner reads the same config afterwards."""
    before = json.dumps(kimi)

    rank_config(kimi, 8)

    assert json.dumps(kimi) == before


def test_rank_keeps_one_whole_head_when_there_are_more_ranks_than_key_heads():
    """Grouped-query models repeat a head over ranks; half a head does not exist."""
    rank = rank_config(
        {
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "intermediate_size": 14336,
            "vocab_size": 32000,
        },
        8,
    )

    assert rank["num_key_value_heads"] == 1
    assert rank["head_dim"] == 128


def test_rank_names_the_size_when_it_cannot_be_divided(kimi):
    """vLLM would say so only after minutes on a rented machine."""
    with pytest.raises(RankError, match=r"num_attention_heads = 64 .* size 7"):
        rank_config(kimi, 7)
