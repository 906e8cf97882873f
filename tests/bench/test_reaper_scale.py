"""The measurement of the reaper: it must measure what its table says."""

import pytest

from bench import reaper_scale
from bench.reaper_scale import COMPUTE_READS, LOOKS, page, reads, runs


@pytest.fixture(scope="module")
def rows():
    return runs(vms=4, stacks=3)


def test_every_run_sees_every_vm_and_fails_at_nothing(rows):
    """A table of runs that saw nothing would look splendid."""
    assert [(row["run"], row["vms"], row["errors"]) for row in rows] == [
        ("look 1", 4, []),
        ("look 2", 4, []),
        ("look 3", 4, []),
        ("end", 8, []),
    ]
    assert [(row["deleted"], row["booked"]) for row in rows] == [(0, 0)] * LOOKS + [(4, 4)]


def test_calls_that_the_cloud_counted_are_those_that_the_run_answers(rows):
    """Two counts of the same thing; one of them would else be taken on trust."""
    assert [sum(row["by_method"].values()) for row in rows] == [row["calls"] for row in rows]
    asked = {method for row in rows for method in row["by_method"] if "compute" in str(method)}
    assert asked <= {*COMPUTE_READS, "compute.instances.delete"}, "a read that the table leaves out"
    assert [reads(row) for row in rows[:LOOKS]] == [6] * LOOKS


def test_page_names_its_command_and_every_run(rows):
    """Whoever doubts a figure makes it again."""
    text = page({"date": "2026-11-23", "vms": 4, "stacks": 3, "runs": rows})

    assert "python bench/reaper_scale.py --vms 4 --stacks 3" in text
    for row in rows:
        assert f"| {row['run']} | {row['seconds']} | {row['vms']} |" in text


def test_measurement_fails_when_a_look_is_too_slow(monkeypatch, tmp_path, capsys):
    """The bound's twin: a slow look is a red result, not a slower line."""
    slow = {
        "run": "look 1",
        "seconds": 31.0,
        **dict.fromkeys(("vms", "deleted", "booked", "calls", "pages"), 0),
        "errors": [],
        "by_method": {},
    }
    monkeypatch.setattr(reaper_scale, "runs", lambda vms, stacks: [slow])
    monkeypatch.setattr("sys.argv", ["reaper_scale", "--out", str(tmp_path)])

    assert reaper_scale.main() == 1
    assert "A look takes 31.0 s" in capsys.readouterr().out
