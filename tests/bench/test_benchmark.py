"""The benchmark's figures, against a server whose pace is known."""

import json

import pytest

from bench import benchmark
from bench.stats import percentile, spread
from tests.bench.server import KEY, Behaviour, serving


def run(url: str, capsys, *more: str, key: str = KEY):
    code = benchmark.main(["--url", url, "--key", key, "--json", "--warmup", "0", *more])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_benchmark_measures_the_pace_when_the_server_streams_evenly(capsys):
    """The figures decide which flags and machines are chosen: they must be the server's."""
    pace = Behaviour(ttft_s=0.1, gap_s=0.02)
    with serving(pace) as url:
        code, figures, _ = run(url, capsys, "--rounds", "2", "--max-tokens", "10")

    assert code == 0
    alone, together = figures["phases"]
    assert (alone["concurrent"], alone["requests"]) == (1, 2)
    assert (together["concurrent"], together["requests"]) == (2, 4)
    first, each, whole = (alone[name]["mean"] for name in ("ttft_ms", "tpot_ms", "e2e_ms"))
    assert first >= 100  # on a busy machine all of them are longer, but none is of the others
    assert each >= 20
    assert whole == pytest.approx(first + 9 * each, abs=0.1)
    assert alone["itl_ms"]["mean"] == pytest.approx(each, abs=0.1)
    assert alone["output_tokens"] == 20
    assert 0 < alone["tokens_per_s"]["p50"] <= 10 / 0.28
    assert alone["total_tokens_per_s"] == pytest.approx(20 / alone["wall_s"], rel=0.01)
    assert pace.most_at_once == 2


def test_benchmark_counts_tokens_by_usage_when_a_chunk_carries_several(capsys):
    """Speculative decoding sends several tokens a chunk; counting chunks would hide the gain."""
    with serving(Behaviour(ttft_s=0.01, gap_s=0.03, per_chunk=3)) as url:
        _, figures, _ = run(url, capsys, "--rounds", "1", "--concurrent", "1", "--max-tokens", "9")

    (phase,) = figures["phases"]
    assert phase["output_tokens"] == 9
    assert phase["tpot_ms"]["p50"] < phase["itl_ms"]["p50"] / 2


def test_benchmark_counts_errors_when_requests_fail(capsys):
    """A dropped failure would make an overloaded server look fast."""
    with serving(Behaviour(faults=["500", "cut"])) as url:
        code, figures, err = run(url, capsys, "--concurrent", "1", "--max-tokens", "3")

    (phase,) = figures["phases"]
    assert code == 1
    assert (phase["requests"], phase["errors"], figures["errors"]) == (3, 2, 2)
    assert "1 x HTTP 500" in err
    assert "1 x the stream ended without [DONE]" in err


def test_benchmark_shows_no_figures_when_every_request_failed(capsys):
    """A zero would be read as a measurement."""
    with serving(Behaviour(usage=False)) as url:
        code, figures, err = run(url, capsys, "--rounds", "1", "--concurrent", "1")

    assert code == 1
    assert figures["phases"][0]["ttft_ms"] is None
    assert "no usage" in err


def test_benchmark_prints_a_table_when_asked_for_no_json(capsys):
    """People read the table; it must carry the failures too."""
    with serving(Behaviour(faults=["500"])) as url:
        command = [
            "--url",
            url,
            "--key",
            KEY,
            "--warmup",
            "0",
            "--rounds",
            "1",
            "--max-tokens",
            "3",
        ]
        assert benchmark.main(command) == 1

    out = capsys.readouterr().out
    assert "1 at once: 1 requests, 1 failed" in out
    assert "2 at once: 2 requests, 0 failed" in out
    assert "p99" in out


def test_benchmark_never_repeats_a_prompt_when_it_runs_twice(capsys):
    """A repeated prompt is served from the prefix cache and flatters the time to first token."""
    pace = Behaviour(ttft_s=0, gap_s=0)
    with serving(pace) as url:
        for _ in range(2):
            run(url, capsys, "--rounds", "2", "--max-tokens", "2")

    prompts = [b["messages"][0]["content"] for b in pace.bodies]
    assert len(prompts) == 12
    assert len(set(prompts)) == 12


def test_benchmark_keeps_its_bound_when_requests_follow_each_other(capsys):
    """The load of `vllm bench serve --max-concurrency`: always so many under way, never more."""
    pace = Behaviour(ttft_s=0.2, gap_s=0)
    with serving(pace) as url:
        words = ("--max-concurrency", "3", "--requests", "12", "--max-tokens", "5")
        _, figures, _ = run(url, capsys, *words)

    (phase,) = figures["phases"]
    assert (phase["concurrent"], phase["requests"]) == (3, 12)
    assert pace.most_at_once == 3
    sent = phase["samples"]["sent_s"]
    assert sent[2] < sent[3] < sent[11]


def test_benchmark_waits_for_none_when_requests_arrive_at_a_rate(capsys):
    """Who waits for a slow server before asking again measures a load that users do not make."""
    pace = Behaviour(ttft_s=1, gap_s=0)
    with serving(pace) as url:
        words = ("--rate", "50", "--requests", "8", "--max-tokens", "2")
        code, figures, _ = run(url, capsys, *words)

    (phase,) = figures["phases"]
    assert code == 0
    assert (phase["rate_per_s"], phase["concurrent"]) == (50, None)
    assert pace.most_at_once > 3


def test_benchmark_aims_at_prompt_lengths_by_the_servers_own_count(capsys):
    """No tokenizer here: what a prompt costs is what the server says."""
    with serving(Behaviour(ttft_s=0, gap_s=0)) as url:
        words = ("--max-concurrency", "2", "--requests", "6", "--max-tokens", "2")
        _, figures, _ = run(url, capsys, *words, "--input-tokens", "uniform:40:60")

    counts = figures["phases"][0]["samples"]["input_tokens"]
    assert figures["load"]["aim"] == {"tokens_per_word": 1.0, "template_tokens": 5}
    assert all(45 <= count <= 65 for count in counts)
    assert len(set(counts)) > 1


def test_benchmark_says_what_tokens_cost_when_it_is_told_the_rate(capsys):
    """26 dollars an hour at 1,000 tokens a second are 7.22 dollars a million."""
    with serving(Behaviour(ttft_s=0, gap_s=0)) as url:
        rate = ("--usd-per-hour", "26", "--rate-source", "a table", "--rate-date", "2026-11-01")
        _, figures, _ = run(url, capsys, "--rounds", "1", "--concurrent", "1", *rate)

    (phase,) = figures["phases"]
    per_hour = 3600 * phase["total_tokens_per_s"]
    assert phase["usd_per_m_output_tokens"] == pytest.approx(26e6 / per_hour, abs=1e-3)
    assert figures["rate"] == {"usd_per_hour": 26, "source": "a table", "date": "2026-11-01"}


def test_benchmark_keeps_all_that_a_repetition_needs_but_the_key(capsys, tmp_path):
    """A result that nobody can repeat is an anecdote; one with the key in it cannot be shown."""
    out = tmp_path / "result.json"
    with serving(Behaviour(ttft_s=0, gap_s=0)) as url:
        words = ("--rounds", "1", "--concurrent", "1", "--seed", "5", "--out", str(out))
        _, printed, _ = run(url, capsys, *words)

    kept = json.loads(out.read_text())
    assert kept == printed
    assert KEY not in out.read_text()
    assert kept["command"][:5] == ["bench/benchmark.py", "--url", url, "--key", "[key]"]
    assert kept["load"]["seed"] == 5
    assert set(kept["versions"]) == {"mayfly", "engine", "python", "httptools"}


def test_benchmark_says_what_to_do_when_nothing_answers(capsys):
    """The usual reason is a missing tunnel."""
    code, figures, err = run("http://127.0.0.1:9/v1", capsys)

    assert code == 1
    assert figures is None
    assert "mayfly connect" in err


def test_benchmark_help_hides_the_key_when_the_environment_holds_one(capsys, monkeypatch):
    """Help lands in tickets and logs."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-one")
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])

    assert "sk-secret-one" not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_benchmark_refuses_a_count_when_it_is_not_above_zero(value, capsys):
    """Zero rounds would print a report of nothing and exit 0."""
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--rounds", value])

    assert end.value.code == 2
    assert value in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "2", "--max-concurrency", "4"], "rounds of --concurrent are one load"),
        (["--concurrent", "2", "--rate", "4"], "rounds of --concurrent are one load"),
        (["--requests", "9"], "--requests needs --max-concurrency or --rate"),
        (["--arrivals", "poisson"], "--arrivals needs --rate"),
        (["--prompt", "hi", "--input-tokens", "9"], "different prompts"),
        (["--out", "nowhere/r.json"], "there is no such folder"),
        (["--ke", "sk-abbreviated"], "unrecognized arguments: --ke"),
    ],
)
def test_benchmark_refuses_what_cannot_be_meant_together(words, message, capsys):
    """A flag that is silently ignored is a load that nobody asked for."""
    with pytest.raises(SystemExit) as end:
        benchmark.main(words)

    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([7], 99, 7), ([1, 2, 3, 4], 50, 2.5), ([4, 1], 90, 3.7), (range(101), 99, 99)],
)
def test_percentile_interpolates_when_it_falls_between_values(values, percent, expected):
    """p99 of few values must not be one value's accident of rounding."""
    assert percentile(list(values), percent) == pytest.approx(expected)


def test_spread_is_none_when_there_are_no_values():
    """See above: a zero would look like a result."""
    assert spread([]) is None
