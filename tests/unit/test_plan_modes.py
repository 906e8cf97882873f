"""Which settings the planner takes, and when it takes dearer ones: flags are money and context."""

import itertools
import json
from dataclasses import replace

import pytest

from mayfly import profile
from mayfly.commands.plan import ranks
from mayfly.fit import FitError
from mayfly.machines import MACHINES
from mayfly.modes import FEWEST_SEQS, Limits, Target, Wish, choose, frontier
from mayfly.parts import Cut
from mayfly.shape import shape_of
from tests.conftest import ROOT

FAST = Wish(context_tokens=32_768, concurrency=64)
LONG = Wish(context_tokens=262_144, concurrency=8)
ENGINE = "0.24.0"


def config(name: str) -> dict:
    return json.loads((ROOT / f"profiles/configs/{name}.json").read_text())


def chosen(name, machine, mode, wish=LONG, **limits):
    raw = name if isinstance(name, dict) else config(name)
    target = Target(
        shape=shape_of(raw), machine=MACHINES[machine], engine=ENGINE, limits=Limits(**limits)
    )
    return choose(target, mode, wish)


def test_long_mode_shares_the_context_out_only_as_far_as_it_must():
    """Context parallelism costs speed: 13 % at two ranks, measured. H200 needs none."""
    assert chosen("kimi-k2.5", "a3-highgpu-8g", "long").setup.dcp == 8
    assert chosen("kimi-k2.5", "a3-ultragpu-8g", "long").setup.dcp == 1


def test_fast_mode_takes_fewer_requests_when_they_would_cost_the_context():
    """On A100 each sequence keeps partial results of latent attention: 64 of them take 1.7 GiB."""
    h100 = chosen("kimi-k2.5", "a3-highgpu-8g", "fast", FAST)
    a100 = chosen("kimi-k2.5", "a2-ultragpu-8g", "fast", FAST)

    assert (h100.setup.seqs, h100.context) == (64, 32_768)
    assert (a100.setup.seqs, a100.context) == (16, 32_768)


def test_planner_keeps_the_engines_utilisation_when_there_is_room():
    """What stays free on the GPU is what NCCL and a driver's mood need."""
    assert chosen("llama-70b", "a3-highgpu-8g", "long").setup.util == 0.92
    assert chosen("kimi-k2.5", "a3-highgpu-8g", "long").setup.util == 0.96


def test_context_is_cut_to_what_surely_fits_when_the_wish_is_too_long():
    """0.3 GiB is what the arithmetic may be wrong by; the refusal would come on the machine."""
    cut = chosen("qwen3-4b", "g2-standard-8", "long")

    assert not cut.reached
    assert cut.context == 90_112
    assert (cut.fit.kv_tokens - cut.context) * cut.fit.kv_bytes_per_token > 0.3 * 2**30
    assert any("262,144 were wished" in why for _, why in cut.reasons)


def test_planner_leaves_gpus_idle_when_the_model_cannot_be_cut_over_all():
    """28 heads over 8 GPUs are refused by the engine; over 7 they are not."""
    raw = {**config("qwen3-4b"), "num_attention_heads": 28, "num_key_value_heads": 4}
    raw["intermediate_size"] = 18_944

    found = chosen(raw, "a2-highgpu-8g", "fast", FAST)

    assert found.setup.tp == 4
    assert "4 stay idle, the model cannot be cut over all 8" in found.reasons[0][1]


def test_exact_weights_are_counted_over_as_many_ranks_as_the_model_is_cut_over():
    """Half the GPUs hold twice as much each: counted over all of them it would seem to fit."""
    loaded = profile.load("qwen3-4b")
    twelve = replace(loaded.shape, cuts=(Cut(name="attention heads", size=12),))

    assert ranks(replace(loaded, shape=twelve), MACHINES["a3-highgpu-8g"]) == 4
    assert ranks(profile.load("kimi-k2.5"), MACHINES["a3-highgpu-1g"]) == 1


def test_block_quantised_experts_are_cut_at_a_blocks_edge_only():
    """1,536 columns over 8 GPUs are 192 each; the engine refuses that with blocks of 128."""
    raw = config("qwen3-235b") | {
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}
    }

    assert chosen(raw, "a3-highgpu-8g", "fast", FAST).setup.tp == 4
    with pytest.raises(FitError, match="no multiple of the weights' quantisation block of 128"):
        chosen(raw, "a3-highgpu-8g", "fast", FAST, tp=8)


@pytest.mark.parametrize(
    ("machine", "limits", "says"),
    [
        ("a2-ultragpu-8g", {"kv_dtype": "fp8"}, "needs a GPU of compute capability 8.9"),
        ("a3-highgpu-8g", {"kv_dtype": "fp8", "dcp": 8}, "0.24.0 refuses an fp8 KV cache"),
        ("a3-highgpu-8g", {"tp": 7}, "7 does not divide 64 attention heads"),
        ("a3-highgpu-8g", {"dcp": 3}, "3 does not divide tensor parallel size 8"),
        ("a3-highgpu-4g", {}, "140.1 GiB of weights"),
    ],
)
def test_planner_says_why_when_nothing_can_be_served(machine, limits, says):
    """The engine says it too, after the machine began to cost."""
    with pytest.raises(FitError, match=says):
        chosen("kimi-k2.5", machine, "long", **limits)


def test_exact_weights_take_the_place_of_the_arithmetic_when_they_are_known():
    """A checkpoint at hand is a better witness than its config."""
    exact = chosen("llama-70b", "a3-highgpu-8g", "fast", FAST, weights=20 * 2**30)

    assert exact.fit.weights_gib == 20


def test_frontier_never_promises_more_than_the_engine_takes():
    """Short requests are bounded by --max-num-seqs, long ones by the cache."""
    found = chosen("kimi-k2.5", "a3-highgpu-8g", "long")
    points = frontier(found)

    assert points[0] == (1024, 8)
    assert points[-1] == (262_144, 1)
    assert all(a[1] >= b[1] for a, b in itertools.pairwise(points))


def test_requests_are_never_cut_below_the_fewest_when_memory_is_short():
    """One request at a time is no service."""
    assert chosen("qwen3-4b", "g2-standard-8", "long").setup.seqs == FEWEST_SEQS
