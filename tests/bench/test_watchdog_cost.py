"""What the watchdog may cost: it runs beside eight GPUs, and on a small one."""

import shutil
import sys

import pytest

from bench import watchdog as bench


def test_watchdog_stays_small_when_the_machine_is_large():
    """40 MB and 0.2 % of a core: nobody shall switch it off because it is in the way."""
    python = shutil.which("python3", path="/usr/bin") or sys.executable

    found = bench.run(4, bench.PROCESSES, bench.made_up_metrics(), python, idle_s=12)

    assert found["within"], found
    assert found["metrics_bytes"] >= bench.METRICS_BYTES


@pytest.mark.parametrize(
    ("cpu_ms", "rss_mb", "right"), [(30, 40, True), (31, 5, False), (1, 41, False)]
)
def test_cost_is_refused_when_it_is_above_the_promise(cpu_ms, rss_mb, right):
    """The gate's twin: 30 ms in 15 s are 0.2 %."""
    assert bench.within(cpu_ms, rss_mb) == right
