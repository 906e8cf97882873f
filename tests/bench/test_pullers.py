"""The table of the pullers: what it counts, and that what is published is what was measured."""

import json
import shutil
import sys

import pytest

from bench import pullers
from bench.puller_server import served
from tests.conftest import ROOT

PUBLISHED = ROOT / "docs/results/pullers.md"


def runs(name, wall_s, cpu_s, start_cpu_s):
    few = {"files": 1, "wall_s": 1.0, "user_s": start_cpu_s, "system_s": 0.0}
    many = {"files": 16, "wall_s": wall_s, "user_s": cpu_s / 2, "system_s": cpu_s / 2}
    return [{"round": 0, "puller": name, **run} for run in (few, many)]


def test_summary_counts_the_start_apart_when_a_puller_is_slow_to_start():
    """At 554 GiB a second of start is nothing, and at 1 GiB it is half of the figure."""
    found = runs("gsutil", 10.0, 9.0, 1.0) + runs("gcloud storage", 5.0, 4.0, 1.5)

    slow, fast = pullers.summary(found, 1 << 30)

    assert (slow["puller"], fast["puller"]) == ("gsutil", "gcloud storage")
    assert (fast["cpu_s_per_gib"], fast["start_cpu_s"]) == (4.0, 1.5)
    assert fast["further_cpu_s_per_gib"] == 2.5
    assert fast["mb_per_s"] == pytest.approx((1 << 30) / 1e6 / 5.0, abs=0.1)


def test_published_table_is_what_its_raw_figures_make():
    """A figure corrected by hand is a figure that nobody measured."""
    (raw,) = (PUBLISHED.parent / "raw").glob("*-pullers/pullers.json")
    said = json.loads(raw.read_text())

    assert pullers.summary(said["runs"], said["bytes"]) == said["rows"]
    assert pullers.page(said) == PUBLISHED.read_text()


def candidate(code):
    """Python as a puller: `folder` is where the files belong."""
    return pullers.Candidate(
        "mine", sys.executable, "-", lambda _, folder: [sys.executable, "-c", code, str(folder)]
    )


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; open(sys.argv[1] + '/tiny', 'w').write('y')", "did not bring"),
        ("pass", "did not bring"),
        ("raise SystemExit('no luck')", "no luck"),
    ],
)
def test_measuring_stops_when_a_puller_does_not_bring_what_was_served(code, why):
    """The fastest puller is the one that pulls nothing."""
    with served(1, 1000) as (server, originals), pytest.raises(SystemExit, match=why):
        pullers.measure(candidate(code), server, originals, ["tiny"])


def test_measuring_counts_processes_that_the_puller_started():
    """gcloud and gsutil do their work in processes of their own."""
    work = "import time\nwhile time.process_time() < 0.5: pass\n"
    code = (
        "import subprocess, sys; open(sys.argv[1] + '/tiny', 'w').write('x'); "
        f"subprocess.run([sys.executable, '-c', {work!r}])"
    )
    with served(1, 1000) as (server, originals):
        found = pullers.measure(candidate(code), server, originals, ["tiny"])

    assert found["user_s"] + found["system_s"] >= 0.5


def test_children_bring_and_check_what_was_served():
    """Their rows stand beside those of programs that check."""
    there = [c for c in pullers.CANDIDATES if c.program == sys.executable or c.program == "curl"]
    assert len(there) == 4
    with served(2, 100_000) as (server, originals):
        names = sorted(path.name for path in originals.glob("*.safetensors"))
        for one in there:
            if shutil.which(one.program):
                assert pullers.measure(one, server, originals, names)["files"] == 2
