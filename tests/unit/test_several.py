"""Several machines as one: what each stage holds, and the fewest that serve. Half a cluster bought
for a model that needs one machine more is money for nothing."""

import dataclasses
import json

import pytest

from mayfly import profile, several
from mayfly.fit import Setup, fit_stages, weights_bytes
from mayfly.machines import MACHINES
from mayfly.modes import Target, Wish, choose
from mayfly.parts import ShapeError, stage_sizes, stages_of
from mayfly.plan import plan
from mayfly.plan_ask import Ask
from mayfly.shape import shape_of
from tests.conftest import ROOT


def config(name: str) -> dict:
    return json.loads((ROOT / f"profiles/configs/{name}.json").read_text())


K3 = shape_of(config("kimi-k3"))
TIED = shape_of(config("qwen3-4b"))


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [
        (93, 1, [93]),
        (93, 2, [47, 46]),
        (93, 3, [31, 31, 31]),
        (61, 3, [20, 21, 20]),
        (93, 4, [23, 23, 24, 23]),
        (62, 4, [15, 16, 16, 15]),
    ],
)
def test_layers_are_cut_as_vllm_cuts_them_when_they_do_not_divide(layers, stages, sizes):
    """The stage with one layer more decides what fits: the first and last have the vocabulary."""
    assert stage_sizes(layers, stages) == sizes


@pytest.mark.parametrize("count", [2, 3, 5])
def test_stages_hold_the_whole_model_when_they_are_put_together(count):
    """A layer that no stage counts would be found out on rented machines."""
    stages = list(stages_of(K3, count))

    assert sum(weights_bytes(stage, 1) for stage in stages) == pytest.approx(weights_bytes(K3, 1))
    assert sum(stage.cache[0].layers for stage in stages) == 24
    assert sum(len(stage.states.at) for stage in stages) == 69
    for name, holder in (("embeddings", stages[0]), ("lm_head", stages[-1])):
        assert [s for s in stages if name in {part.name for part in s.parts}] == [holder]


def test_both_ends_hold_the_vocabulary_when_it_is_tied():
    """One matrix, needed where tokens come in and where they go out."""
    first, last = stages_of(TIED, 2)
    whole = next(part.size_bytes for part in TIED.parts if part.name == "embeddings")

    for stage in (first, last):
        assert whole in [part.size_bytes for part in stage.parts if part.name == "embeddings"]


def test_stage_with_the_least_room_decides_when_the_cache_is_not_even():
    """Every fourth layer of K3 has a cache, and the last one: the third stage has nine."""
    fit = fit_stages(K3, Setup(tp=8, pp=3), 79.18, 2.0)

    assert [stage.cache[0].layers for stage in stages_of(K3, 3)] == [7, 8, 9]
    assert fit.stage.cache[0].layers == 9


def test_linear_attention_costs_by_request_and_not_by_token_when_it_is_planned():
    """96 heads of 128 x 128 in fp32, and three positions of three convolutions in bf16."""
    one, eight = (Setup(tp=8, pp=3, seqs=seqs) for seqs in (1, 8))
    state = (31 - 9) * (96 * 128 * 128 * 4 + 3 * 3 * 96 * 128 * 2) / 8

    few, more = (fit_stages(K3, setup, 79.18, 2.0) for setup in (one, eight))

    tokens = 7 * state / few.kv_bytes_per_token
    assert few.kv_tokens - more.kv_tokens == pytest.approx(tokens, abs=16)


def test_nothing_is_shared_out_when_layers_have_linear_attention():
    """vLLM asserts it when the engine starts, minutes into three rented machines."""
    target = Target(shape=K3, machine=MACHINES["a3-highgpu-8g"], engine="0.27.1", nodes=3)

    found = choose(target, "long", Wish(context_tokens=1_048_576, concurrency=8))

    assert found.setup.dcp == 1
    assert found.context == 954_368


@pytest.mark.parametrize(
    ("machine", "nodes"),
    [("a3-highgpu-8g", 3), ("a3-ultragpu-8g", 2), ("a4-highgpu-8g", 2), ("a2-highgpu-8g", 6)],
)
def test_fewest_machines_are_found_when_one_is_too_small(machine, nodes):
    """One machine too many is its whole price for nothing."""
    found = several.fewest(profile.load("kimi-k3"), machine, "fast")

    assert found.nodes == nodes
    assert found.choice.reached


def test_one_machine_is_the_fewest_when_it_holds_the_model():
    """A network between halves of a model that fits one machine only makes it slower."""
    assert several.fewest(profile.load("kimi-k2.5"), "a3-highgpu-8g", "fast").nodes == 1


def test_no_number_is_told_when_eight_machines_do_not_hold_it():
    """Of any finite number, someone would buy them."""
    huge = dataclasses.replace(
        K3, parts=tuple(dataclasses.replace(p, size_bytes=8 * p.size_bytes) for p in K3.parts)
    )
    loaded = dataclasses.replace(profile.load("kimi-k3"), shape=huge)

    assert several.fewest(loaded, "a3-highgpu-8g", "fast") is None


def test_sizes_alone_are_told_when_no_config_can_be_read():
    """Less than a plan, and said as what it is: the least, not what serves."""
    unread = dataclasses.replace(profile.load("kimi-k3"), shape=None)
    near = plan(Ask(profile=unread, machine="a3-highgpu-8g"))["nearest"]

    assert (near["machines"], near["machine"], near["command"]) == (2, "a3-ultragpu-8g", None)
    assert "at least 3 x a3-highgpu-8g" in near["note"]


def test_money_is_for_all_machines_when_there_are_several():
    """A budget that counted one of three would be spent three times."""
    ask = Ask(profile=profile.load("kimi-k3"), machine="a3-highgpu-8g", nodes=3, budget_usd=158.88)
    whole = plan(ask)

    assert whole["usd_per_hour"] == pytest.approx(3 * 52.96)
    assert whole["deadline_hours"] == 1
    assert whole["gpus"] == "24 x H100 80GB"


def test_machines_stand_cheapest_first_when_others_are_shown_beside():
    """The reader wants the cheapest; one without a price must not look as if it were."""
    rows = plan(Ask(profile=profile.load("kimi-k3"), machine="a3-highgpu-8g", nodes=3))["beside"]
    prices = [row["usd_per_hour"] for row in rows]

    assert [row["machine"] for row in rows[:2]] == ["a2-ultragpu-8g", "a3-ultragpu-8g"]
    assert prices == sorted(prices, key=lambda price: price or float("inf"))
    assert all(row["rate_source"] for row in rows if row["usd_per_hour"])
    assert "a3-highgpu-8g" not in [row["machine"] for row in rows]


def test_speed_is_no_figure_when_there_are_several_machines():
    """A rank's speed leaves out the network between machines altogether."""
    whole = plan(Ask(profile=profile.load("kimi-k2.5"), machine="a3-highgpu-8g", nodes=2))

    assert whole["modes"]["fast"]["speed"]["tok_s_per_request"] is None


@pytest.mark.parametrize("gone", ["kda_layers", "head_dim", "num_heads"])
def test_linear_attention_is_refused_when_its_shapes_are_not_all_known(gone):
    """Another model's kind of it, read as K3's, would be planned wrong."""
    raw = config("kimi-k3")
    del raw["text_config"]["linear_attn_config"][gone]

    with pytest.raises(ShapeError, match="linear attention"):
        shape_of(raw)
