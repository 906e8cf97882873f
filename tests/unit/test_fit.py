"""The planner against what vLLM itself reported: a plan that is wrong costs a rented machine."""

import json

import pytest

from mayfly import profile
from mayfly.fit import FitError, fit
from mayfly.parts import ShapeError
from mayfly.probe_case import Plan, predict
from mayfly.shape import shape_of

H100 = 79.18  # GiB that torch reported where the points below were measured
SEED_H100 = 79.18
# GiB of a vision tower kept whole on every GPU (--mm-encoder-tp-mode data).
VISION_GIB = 0.88

# One TP8 rank, vLLM 0.24.0: util, batched tokens, seqs, KV type, KV GiB, KV tokens
MEASURED = {
    "full": (0.95, 8192, 8, "auto", 0.94, 14_272),
    "tuned": (0.97, 2048, 8, "auto", 4.18, 63_888),
    "A": (0.97, 2048, 64, "auto", 3.94, 60_160),
    "B, warm caches": (0.97, 2048, 64, "auto", 4.12, 62_928),
    "C, fp8": (0.97, 2048, 64, "fp8", 3.94, 120_320),
    "batched 4096": (0.97, 4096, 64, "auto", 3.54, 54_112),
    "batched 8192": (0.97, 8192, 8, "auto", 2.52, 38_480),
}


@pytest.fixture
def kimi(project_root):
    return json.loads((project_root / "profiles/configs/kimi-k2.5.json").read_text())


@pytest.mark.parametrize("name", MEASURED)
def test_plan_is_within_five_percent_of_every_measured_point(kimi, name):
    """Five percent is the promise; the worst of these is what a user may meet."""
    util, batched, seqs, kv, kv_gib, tokens = MEASURED[name]

    plan = fit(kimi, H100, 8, 1, util, batched, seqs, kv)

    assert plan.weights_gib == pytest.approx(71.23, rel=0.01)
    assert plan.kv_gib == pytest.approx(kv_gib, rel=0.05)
    assert plan.kv_tokens == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize(
    ("name", "weights_gib", "kv_gib", "tokens"),
    [
        ("kimi-k2.5", 71.23, 3.15, 48_048),
        ("qwen3-235b", 54.98, 15.88, 354_224),
        ("llama-70b-r1", 16.49, 55.40, 1_452_384),
    ],
)
def test_plan_is_within_five_percent_of_what_a_probe_found(name, weights_gib, kv_gib, tokens):
    """Latent attention with experts, grouped with experts, grouped and dense: one formula."""
    asked = Plan(profile=profile.load(name), machine="a3-highgpu-8g", mode="fast")

    found = predict(asked.profile, asked.setup(), H100)

    assert found["weights_gib"] == pytest.approx(weights_gib, rel=0.01)
    assert found["kv_gib"] == pytest.approx(kv_gib, rel=0.05)
    assert found["kv_tokens"] == pytest.approx(tokens, rel=0.05)


def test_plan_finds_little_room_when_given_the_old_flags_that_just_ran(kimi):
    """vLLM 0.15.0 with the vision tower on every GPU: 0.64 GiB were left, 9,664 tokens."""
    text = fit(kimi, SEED_H100, 8).weights_gib * 2**30

    plan = fit(
        kimi,
        SEED_H100,
        8,
        util=0.95,
        batched_tokens=8192,
        seqs=64,
        engine="0.15.0",
        weights_bytes_per_gpu=text + VISION_GIB * 2**30,
    )

    assert plan.weights_gib == pytest.approx(72.02, rel=0.01)
    assert plan.kv_gib == pytest.approx(0.64, abs=0.15)


def test_plan_refuses_the_old_flags_that_vllm_refused(kimi):
    """Utilisation .90 left minus 3.32 GiB, found out after the machine was paid for."""
    plan = fit(kimi, SEED_H100, 8, util=0.90, batched_tokens=8192, engine="0.15.0")

    assert not plan.fits
    assert plan.kv_gib < -2


def test_latent_cache_takes_the_published_bytes_per_token(kimi):
    """61 layers of 512 + 64 numbers, on every rank alike."""
    assert fit(kimi, H100, 8).kv_bytes_per_token == 70_272
    assert fit(kimi, H100, 8, kv_dtype="fp8").kv_bytes_per_token == 35_136


def test_context_parallelism_brings_the_full_context_on_eight_h100(kimi):
    """Mode long: 262,144 tokens at full precision."""
    plan = fit(kimi, SEED_H100, 8, 8, 0.96, 2048, 8)

    assert plan.max_context == 262_144
    assert plan.kv_tokens == pytest.approx(413_000, rel=0.05)


def test_context_parallelism_doubles_tokens_as_measured_on_two_gpus(kimi):
    """Measured on two H200 with 12 of the 61 layers: 68.67 GiB held 5,334,112 tokens, x2.00."""
    kimi["text_config"]["num_hidden_layers"] = 12
    alone = fit(kimi, 139.8, 2, 1)
    double = fit(kimi, 139.8, 2, 2)

    assert 68.67 * 2**30 / alone.kv_bytes_per_token == pytest.approx(5_334_112, rel=0.001)
    assert double.kv_tokens / alone.kv_tokens == pytest.approx(2, rel=0.001)


GROUPED = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
}


def test_grouped_query_model_gives_its_known_size_and_cache():
    """An 8-billion-parameter dense model: 8.03e9 parameters, 128 KiB a token in bf16."""
    plan = fit(GROUPED, 22.0, 1, util=0.9)

    assert plan.weights_gib * 2**30 / 2 == pytest.approx(8.03e9, rel=0.01)
    assert plan.kv_bytes_per_token == 131_072


def test_key_heads_stop_being_shared_out_when_there_are_more_ranks_than_heads():
    """With 8 key heads, 16 ranks keep as much cache each as 8 ranks do."""
    eight = fit(GROUPED, 80.0, 8)
    sixteen = fit(GROUPED, 80.0, 16)

    assert eight.kv_bytes_per_token == sixteen.kv_bytes_per_token == 131_072 // 8


def test_sliding_layers_stop_growing_at_their_window():
    """Half the layers keep 4,096 tokens only, so a long request needs about half the room."""
    sliding = {
        **GROUPED,
        "sliding_window": 4096,
        "layer_types": ["full_attention", "sliding_attention"] * 16,
        "max_position_embeddings": 10**6,
    }

    ratio = fit(sliding, 40.0, 1).kv_tokens / fit(GROUPED, 40.0, 1).kv_tokens

    assert 1.8 < ratio < 2


@pytest.mark.parametrize(
    ("more", "full"),
    [
        ({"sliding_window": None}, 32),
        ({"sliding_window": 1024, "use_sliding_window": False}, 32),
        ({"sliding_window": 1024, "max_window_layers": 28}, 28),
        ({"sliding_window": 1024, "sliding_window_pattern": 6}, 5),
        ({"sliding_window": 1024}, 0),
    ],
)
def test_layers_with_a_window_are_told_from_full_ones_in_every_spelling(more, full):
    """Five ways to say it in a config.json; taking one for another promises too much context."""
    groups = {group.window: group.layers for group in shape_of({**GROUPED, **more}).cache}

    assert groups.get(None, 0) == full
    assert groups.get(1024, 0) == 32 - full


def test_linear_attention_is_refused_rather_than_planned_as_another():
    """Its state does not grow with context, and its weights are others."""
    with pytest.raises(ShapeError, match="linear attention"):
        fit({**GROUPED, "linear_attn_config": {"kda_layers": [1]}}, H100, 1)


def test_quantised_experts_are_told_from_what_stays_in_bf16(kimi):
    """K2.5 is 595 GB because only its routed experts are INT4; all in bf16 it would be 2 TB."""
    del kimi["text_config"]["quantization_config"]

    assert fit(kimi, 300.0, 8).weights_gib > 3 * 71.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tp": 7}, "7 does not divide 64 attention heads"),
        ({"tp": 8, "dcp": 3}, "3 does not divide tensor parallel size 8"),
        ({"tp": 8, "dcp": 8, "kv_dtype": "fp8"}, "0.24.0 refuses an fp8 KV cache"),
    ],
)
def test_plan_refuses_what_the_engine_would_refuse(kimi, arguments, says):
    """vLLM says so minutes after the machine began to cost."""
    with pytest.raises(FitError, match=says):
        fit(kimi, H100, **arguments)


def test_grouped_model_refuses_context_parallelism_when_no_heads_are_repeated():
    """Only ranks that hold the same key heads can share a request's context."""
    with pytest.raises(FitError, match="only 1 ranks keep the same KV heads"):
        fit(GROUPED, 80.0, 8, 2)


def test_plan_names_what_is_missing_when_the_config_is_no_language_model():
    """A vision tower's config.json is found beside the model's in some repositories."""
    with pytest.raises(ShapeError, match="num_hidden_layers"):
        fit({"hidden_size": 1, "num_attention_heads": 1, "vocab_size": 1}, H100, 1)


def test_plan_refuses_an_unknown_quantisation():
    """A guessed width would be a guessed machine."""
    with pytest.raises(ShapeError, match="'exl3'"):
        fit({**GROUPED, "quantization_config": {"quant_method": "exl3"}}, H100, 1)
