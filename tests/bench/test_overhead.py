"""The benchmark's own overhead: the measurement, and that its gate sees red."""

import json
import re

import pytest

from bench.overhead import BOUND_STREAMS, compared, page, problems
from bench.overhead import main as overhead
from bench.stream import Stream
from tests.conftest import ROOT

GAP_S = 0.01


def row(late_s=0.0001, gap_s=GAP_S, client_gap_s=None, errors=0):
    """What one stream of 100 tokens would give: written every gap_s, stamped late_s after."""
    written = [1 + gap_s * i for i in range(100)]
    ours_s = client_gap_s or gap_s
    arrived = [1 + late_s + ours_s * i for i in range(100)]
    stream = Stream(arrivals_s=arrived, text=" ".join(f"{w:.7f}" for w in written))
    ours = {"p50": 1000 * ours_s, "p99": 1000 * ours_s, "mean": 1000 * ours_s}
    phase = {
        "errors": errors,
        "total_tokens_per_s": 100 / written[-1],
        "client_cpu_share": 0.1,
        "itl_ms": ours,
        "tpot_ms": ours,
    }
    return {"streams": BOUND_STREAMS, "tokens": 100, **compared(phase, [(0.0, stream)])}


def test_overhead_is_within_its_bound_when_events_are_stamped_at_once():
    """A tenth of a millisecond of ten: one percent."""
    found = row()

    assert problems(found) == []
    assert found["added"]["late_mean"] == pytest.approx(0.01, abs=1e-4)
    assert found["late_ms"]["p99"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"late_s": 0.002}, "late_mean \\+20.0%"),
        ({"client_gap_s": 0.011}, "tpot \\+10.0%"),
        ({"gap_s": 0.012}, "the server was \\+20.0% off its own pace: nothing is measured"),
        ({"errors": 3}, "3 requests failed"),
    ],
)
def test_overhead_is_red_when_client_or_server_is_late(made, message):
    """The gate's twin: a slow client, and a server that did not keep the pace it is held to."""
    assert any(re.match(message, problem) for problem in problems(row(**made)))


def test_paced_server_streams_and_stamps_its_tokens(tmp_path, capsys):
    """The measurement itself, short: every event accounted for, whatever this machine's load."""
    overhead(["--out", str(tmp_path), "--seconds", "0.2"])

    (raw,) = (tmp_path / "raw").glob("*-bench-overhead.json")
    found = json.loads(raw.read_text())
    assert [r["streams"] for r in found["rows"]] == [1, 64, 256]
    assert all(r["errors"] == 0 and r["late_ms"]["mean"] > 0 for r in found["rows"])
    assert (tmp_path / "bench-overhead.md").read_text() == page(found)


def test_published_page_is_made_from_its_raw_file_and_keeps_the_bound():
    """What people read must be what was measured."""
    results = ROOT / "docs/results"
    raw = max((results / "raw").glob("*-bench-overhead.json"))
    found = json.loads(raw.read_text())

    assert (results / "bench-overhead.md").read_text() == page(found)
    assert found["problems"] == []
