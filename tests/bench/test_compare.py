"""Better or worse is said of servers, not of luck."""

import json

import numpy as np
import pytest

from bench.compare import FIGURES, LoadError, Side, compare, main
from tests.bench.results import phase, result


def verdicts(a, b):
    return {d.figure: d.verdict for d in compare(a, b)}


def test_compare_sees_no_difference_when_both_ran_on_the_same_server():
    """The first question of anybody who changed a flag and saw another number."""
    found = [
        verdict
        for seed in range(40)
        for verdict in verdicts(
            result(phase(seed=2 * seed)), result(phase(seed=2 * seed + 1))
        ).values()
    ]

    assert len(found) == 40 * len(FIGURES)
    wrong = [v for v in found if v != "no difference beyond noise"]
    assert len(wrong) <= 4  # 40 pairs at 95 %: two are expected


def test_compare_says_which_is_better_when_one_is_a_tenth_faster():
    """The twin of the above: what is there must be seen, and in the right direction."""
    slow, fast = result(phase(mean_s=0.010)), result(phase(mean_s=0.009, seed=1))

    assert verdicts(slow, fast)["TPOT, ms"] == "better"
    assert verdicts(fast, slow)["TPOT, ms"] == "worse"
    assert verdicts(slow, fast)["TTFT, ms"] == "no difference beyond noise"


def test_compare_gives_the_same_answer_when_asked_again():
    """A verdict that changes with the dice is none."""
    a, b = result(phase()), result(phase(seed=1))

    assert compare(a, b) == compare(a, b)


def test_compare_says_too_few_when_there_are_few_requests():
    """Three requests a side tell nothing, however far apart they lie."""
    a, b = result(phase(requests=3)), result(phase(requests=3, mean_s=0.05))

    assert set(verdicts(a, b).values()) == {"too few requests"}


def test_compare_draws_requests_together_when_they_share_a_batch():
    """Eight requests of one slow batch are one piece of evidence, not eight."""
    side = Side.of(phase(concurrent=8, requests=160), "ttft_ms")
    alone = Side.of(phase(concurrent=1, requests=160), "ttft_ms")

    assert (len(side.counts), len(alone.counts)) == (20, 160)
    assert side.mean == pytest.approx(alone.mean)
    assert np.all(side.counts == 8)


@pytest.mark.parametrize(
    ("key", "value"), [("output_tokens", "128"), ("model", "other"), ("shape", "rounds")]
)
def test_compare_refuses_when_the_loads_differ(key, value):
    """A shorter answer is not a faster server."""
    a, b = result(phase()), result(phase())
    b["load"] = b["load"] | {key: value}

    with pytest.raises(LoadError, match=key):
        compare(a, b)


def test_compare_refuses_when_the_requests_at_once_differ():
    """A phase of 8 at once against one of 16 would measure the batch."""
    with pytest.raises(LoadError, match="8 at once; the other 16 at once"):
        compare(result(phase()), result(phase(concurrent=16)))


def test_compare_says_so_when_a_run_had_errors(tmp_path, capsys):
    """Who drops the slow ones is fast."""
    files = []
    for number, errors in enumerate([(), ("HTTP 500: engine dead",)]):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(result(phase(errors=errors))))

    assert main([str(f) for f in files]) == 0
    out = capsys.readouterr().out
    assert "B had 1 failed requests" in out
    assert "noise" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a benchmark's result of format 1"),
        ('{"format": 2}', "not a benchmark's result of format 1"),
        ('{"format": 1}', "without date"),
    ],
)
def test_compare_names_the_file_when_it_is_no_result(text, message, tmp_path, capsys):
    """Two files are easily mixed up with their pictures."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(result(phase())))
    bad.write_text(text)

    assert main([str(good), str(bad)]) == 1
    err = capsys.readouterr().err
    assert f"{bad}: {message}" in err
    assert "Nothing was compared." in err
