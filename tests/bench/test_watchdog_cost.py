"""What the watchdog may cost: it runs beside eight GPUs, and on a small one."""

import json
import shutil
import sys

import pytest

from bench import watchdog as bench
from tests.conftest import ROOT


def test_watchdog_stays_small_when_the_machine_is_large():
    """40 MB and 0.2 % of a core: nobody shall switch it off because it is in the way."""
    python = shutil.which("python3", path="/usr/bin") or sys.executable

    found = bench.run(8, 2000, bench.made_up_metrics(), python, idle_s=8)

    assert found["within"], found
    assert found["metrics_bytes"] >= bench.METRICS_BYTES


@pytest.mark.parametrize(
    ("cpu_ms", "rss_mb", "right"), [(30, 40, True), (31, 5, False), (1, 41, False)]
)
def test_cost_is_refused_when_it_is_above_the_promise(cpu_ms, rss_mb, right):
    """The gate's twin: 30 ms in 15 s are 0.2 %."""
    assert bench.within(cpu_ms, rss_mb) == right


def test_page_says_what_was_measured():
    """A figure that nobody measured is worse than none."""
    page = (ROOT / "docs/results/watchdog.md").read_text()
    rows = {"before": "before", "now": "watchdog", "now, 6,000 processes": "6000"}

    for name, file in rows.items():
        raw = json.loads((ROOT / f"docs/results/raw/2026-11-23-watchdog/{file}.json").read_text())
        (line,) = [row for row in page.splitlines() if row.startswith(f"| {name} |")]
        cells = [cell.strip(" *%") for cell in line.strip("|").split("|")][1:]
        wanted = ("cpu_ms_a_look", "cpu_s_an_hour", "core_percent", "rss_mb", "pss_mb")
        assert [float(cell) for cell in cells] == [raw[key] for key in wanted]
        assert raw["within"] is (name != "before")
