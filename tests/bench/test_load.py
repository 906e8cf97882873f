"""What a benchmark sends: lengths, moments, and that the same seed is the same load."""

import argparse
from dataclasses import replace
from itertools import pairwise

import pytest

from bench.load import HEAD_WORDS, WORDS, Aim, Load, asks, lengths

LOAD = Load(
    model="kimi",
    shape="arrivals",
    prompt="",
    input_tokens=lengths("100"),
    output_tokens=lengths("uniform:1:50"),
    concurrent=None,
    rounds=None,
    requests=400,
    rate_per_s=4,
    arrivals="poisson",
    seed=7,
)
AIM = Aim(tokens_per_word=1.25, template_tokens=9)


def test_asks_repeat_but_for_their_heads_when_the_seed_is_the_same():
    """A comparison of two runs needs the same load, and none may hit the other's prefix cache."""
    first, again = (list(asks(LOAD, AIM, head)) for head in ("one", "two"))

    assert [a.at_s for a in first] == [a.at_s for a in again]
    assert [a.output_tokens for a in first] == [a.output_tokens for a in again]
    heads = {tuple(a.prompt.split()[:HEAD_WORDS]) for a in first + again}
    assert len(heads) == 800
    tails = [[a.prompt.split()[HEAD_WORDS:] for a in load] for load in (first, again)]
    assert tails[0] == tails[1]
    assert tails[0] != [a.prompt.split()[HEAD_WORDS:] for a in asks(replace(LOAD, seed=8), AIM, "")]


def test_prompts_have_the_words_that_the_servers_count_makes_of_the_tokens():
    """100 tokens at 1.25 a word are 80 words; the chat template is not in them."""
    assert {len(a.prompt.split()) for a in asks(LOAD, AIM, "run")} == {80}
    assert Aim.learnt((32, 49), (544, 689)) == AIM


def test_an_aim_is_refused_when_the_count_does_not_grow():
    """A server without real counts would be sent prompts of any length at all."""
    with pytest.raises(ValueError, match="5 tokens for 32 words, 5 for 544"):
        Aim.learnt((32, 5), (544, 5))


def test_a_poisson_process_has_the_rate_and_the_spread_of_one():
    """Evenly spaced requests never queue; real ones do."""
    poisson = [a.at_s for a in asks(LOAD, AIM, "run")]
    gaps = [b - a for a, b in pairwise(poisson)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert poisson[0] == 0
    assert mean == pytest.approx(0.25, rel=0.15)
    assert deviation == pytest.approx(mean, rel=0.2)


def test_fixed_arrivals_are_even():
    """The twin of the above: no spread at all."""
    even = [a.at_s for a in asks(replace(LOAD, arrivals="fixed"), AIM, "run")]

    assert even[:3] == [0, 0.25, 0.5]


def test_normal_lengths_have_their_mean_and_never_fall_below_one():
    """An answer of no tokens is an error of ours, not of the server."""
    load = replace(LOAD, output_tokens=lengths("normal:3:3"), requests=2000)
    drawn = [a.output_tokens for a in asks(load, AIM, "run")]

    assert min(drawn) == 1
    assert sum(drawn) / len(drawn) == pytest.approx(3.4, rel=0.1)


@pytest.mark.parametrize("text", ["0", "uniform:9:3", "uniform:3", "gamma:1:2", "a", "-4", "1:2"])
def test_lengths_are_refused_when_they_say_nothing(text):
    """A typo must not become another load."""
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        lengths(text)


@pytest.mark.parametrize("text", ["128", "uniform:1:9", "normal:512:64"])
def test_lengths_say_themselves_as_they_are_typed(text):
    """The result names them; whoever repeats the run pastes that."""
    assert str(lengths(text)) == text


def test_words_are_as_many_as_the_head_counts_on():
    """Ten of 64 words are 60 bits: no two heads are the same."""
    assert len(set(WORDS)) == 64
