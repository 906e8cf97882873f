"""Whole lives of machines, recorded or written by hand, with the verdict at every second."""

import json

import pytest

from mayfly import idle
from startup import probes
from tests.traces import replay

TRACES = replay.traces()
NAMES = [trace.stem for trace in TRACES]


@pytest.mark.parametrize("trace", TRACES, ids=NAMES)
def test_verdicts_are_the_recorded_ones_at_every_second(trace):
    """A change of the rule shows in these files, and nowhere else unseen.

    Where it is wanted: `python -m tests.traces.replay`, then read the difference.
    """
    assert replay.replay(trace) == replay.verdicts_of(trace).read_text()


@pytest.mark.parametrize("trace", TRACES, ids=NAMES)
def test_trace_says_what_it_shows_and_ends_as_it_says(trace):
    """Verdicts written anew without a thought must not turn a life's end around."""
    head = json.loads(trace.read_text().splitlines()[0])

    assert len(head["about"]) > 20
    assert head["made"].startswith(("by hand", "recorded 20"))
    last = replay.verdicts_of(trace).read_text().splitlines()[-1]
    at = last.removeprefix("# powered off: ").removeprefix("at ")
    low, high = head["powered_off"] or (None, None)
    if low is None:
        assert at == "never"
    else:
        assert low <= float(at) <= high


def test_replay_sees_another_rule_when_one_is_put_in(monkeypatch):
    """The twin: with requests unseen, a recorded life comes out otherwise."""
    real = probes.parse_metrics
    unseen = dict.fromkeys(probes.GAUGES, 0.0)
    monkeypatch.setattr(probes, "parse_metrics", lambda text: {**real(text), **unseen})
    trace = replay.FOLDER / "long-prefill.jsonl"

    assert replay.replay(trace) != replay.verdicts_of(trace).read_text()


def test_traces_cover_the_cases_that_have_names():
    """Each has been somebody's bill or somebody's lost session."""
    wanted = {
        *("start-up", "long-prefill", "forty-minute-generation", "silent-tunnel", "clock-jumps"),
        *("vllm-restart", "missing-samples", "editor-left-open", "dashboard-left-open"),
        *("keepalives-all-night", "kept", "failed-start", "demo-session"),
    }
    assert wanted <= set(NAMES)
    assert idle.PHASES
