"""`mayfly cost --break-even`: is a machine of one's own worth it?"""

import json

import pytest

from mayfly import cli
from mayfly.break_even import Api, points, sentence

SPEEDS = {8: 100.0, 1: 125.0, 64: 50.0}


def test_points_are_arithmetic_that_a_reader_can_repeat():
    """36 USD/h; 64 x 50 tokens/s are 11.52 M/h: 3.125 a million here, 138.24 at the API."""
    one, eight, many = points(SPEEDS, 36.0, Api())

    assert (many.requests, many.tok_s, many.api_usd_per_h) == (64, 3200.0, 138.24)
    assert many.usd_per_m == pytest.approx(3.125, abs=0.006)
    assert many.busy_share == pytest.approx(36 / 138.24, abs=0.001)
    assert many.input_per_output is None
    # 2.88 M tokens/h: 34.56 USD at the API; the 1.44 left are 0.72 M prompt tokens at 2 USD.
    assert (eight.busy_share, eight.input_per_output) == (None, 0.2)
    assert one.input_per_output == pytest.approx((36 - 5.4) / (0.45 * 2))


def test_sentence_says_when_it_pays_in_each_case():
    """Three answers: so busy, such prompts, never."""
    one, _, many = points(SPEEDS, 36.0, Api())
    (never,) = points({1: 125.0}, 36.0, Api(usd_in=0.0))

    assert sentence(many) == "pays when 26% of the hour is like that"
    assert sentence(one) == "pays with 34 prompt tokens for each generated one, or more"
    assert sentence(never) == "does not pay"


def test_break_even_tells_rate_and_speed_with_their_sources(capsys):
    """Neither figure is worth anything without."""
    assert cli.main(["cost", "--break-even", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert cli.main(["cost", "--break-even"]) == 0
    shown = " ".join(capsys.readouterr().out.split())

    assert (told["api_usd_per_m_in"], told["api_usd_per_m_out"]) == (2, 12)
    assert told["rate_source"]
    assert told["rate_date"] in shown
    assert "no all-reduce" in told["basis"]
    assert "an upper bound" in shown
    assert [point["requests"] for point in told["points"]] == [1, 8, 32, 64]
    assert "against $2 in, $12 out" in shown
    assert "no vendor's list was read" in shown


def test_break_even_counts_with_the_price_that_is_given(capsys):
    """Every vendor has its own."""
    words = ["cost", "--break-even", "--json", "--api-in", "0.5", "--api-out", "3"]

    assert cli.main(words) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["api_source"] == "as given on the command line"
    cheap = told["points"][-1]
    assert cheap["api_usd_per_h"] == pytest.approx(4985.6 * 3600 / 1e6 * 3, abs=0.01)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--api-out", "0"], 2, "--api-out 0: dollars for a million tokens."),
        (["--api-in", "-1"], 2, "--api-in -1"),
        (["--api-in", "nan"], 2, "--api-in nan"),
        (["--profile", "nix"], 2, "'nix'. Valid: kimi-k2.5"),
        (["--machine", "n2-standard-8"], 2, "--machine: 'n2-standard-8'"),
        (["--zone", "mars-1"], 2, "--zone: 'mars-1'"),
        (["--csv"], 2, "--break-even takes no --csv"),
        (["--month", "2026-11"], 2, "--break-even takes no --month"),
        (["--machine", "a2-ultragpu-8g"], 3, "Nobody has measured kimi-k2.5 on 8 x A100 80GB."),
        (["--machine", "a2-highgpu-8g"], 3, "does not fit"),
        (["--zone", "europe-west3-c"], 3, "No source prices a3-highgpu-8g as spot in europe-west"),
    ],
)
def test_break_even_refuses_what_it_cannot_know(capsys, words, code, said):
    """A figure that nobody has measured would be believed."""
    assert cli.main(["cost", "--break-even", *words]) == code

    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
