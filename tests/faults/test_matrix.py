"""The matrix itself: what it must hold, and that it would see a leak."""

import json
import time

import pytest

from tests.faults import __main__ as program
from tests.faults import page, patience, shards
from tests.faults.conditions import CONDITIONS
from tests.faults.measure import Result, disk_problems, over_s
from tests.faults.scenario import ALL, LAYERS, PAUSED, REAPER
from tests.faults.session import Due, Life
from tests.faults.timing import SHORT, in_test, production, shipped

SCENARIOS = list(ALL.values())
NOW = 1_795_000_000.0


def test_matrix_has_its_rows_and_each_says_what_it_plays():
    """Thirty ways to lose a GPU, and one at least where a single layer is left."""
    assert len(SCENARIOS) >= 30
    assert {one.condition for one in SCENARIOS} <= CONDITIONS.keys()
    assert all(one.does.endswith(".") for one in SCENARIOS)
    assert {layer for one in SCENARIOS for layer in one.layers_off} == set(LAYERS)
    assert any(len(one.layers_off) == 2 for one in SCENARIOS)


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda one: one.name)
def test_bound_is_shorter_in_a_run_than_by_default(one):
    """A run shrinks durations; a bound that did not follow would be made up."""
    assert in_test(one.config).limits != production().limits
    assert one.bound(in_test(one.config)) <= one.bound(production())
    assert one.config.keys() <= SHORT.keys() <= shipped().keys()


def test_bounds_follow_the_products_defaults():
    """README's promise is made of these."""
    shipped_s = production()

    assert shipped_s.watchdog_s == 15 + 120 + 10
    assert shipped_s.reaper_s == 300 + 120 + 10
    assert shipped_s.silent_s == 300 + shipped_s.reaper_s
    assert shipped_s.deadline_s == 4 * 3600 - 20 * 60 + 130


def test_over_counts_gpu_seconds_after_each_vms_due_time():
    """What ended early owes nothing to what ended late; what still lives counts up to now."""
    early, late = Life("1", NOW, NOW + 5), Life("2", NOW, NOW + 30)
    due = [Due("1", NOW + 10, ()), Due("2", NOW + 10, ())]

    assert over_s([early, late], due) == 20
    assert over_s([Life("1", NOW, None)], due) == pytest.approx(time.time() - NOW - 10, abs=5)


def test_over_counts_the_whole_life_when_nobody_expected_the_vm():
    """A VM that a scenario did not speak of is a leak from its first second."""
    assert over_s([Life("9", NOW, NOW + 50)], [Due("1", NOW, ())]) == 50


def test_disk_is_a_problem_unless_the_reaper_is_off():
    """Only where nobody can take it away may it stay."""
    left = Result(left=["boot disk mayfly-x (100 GB)"])
    with_reaper = next(one for one in SCENARIOS if REAPER not in one.layers_off)
    without = next(one for one in SCENARIOS if REAPER in one.layers_off)

    assert disk_problems(with_reaper, left) == ["left: boot disk mayfly-x (100 GB)"]
    assert disk_problems(without, left) == []


def test_row_is_not_ok_when_one_run_of_three_was_not():
    """Three in a row means three."""
    results = [Result(over_s=1), Result(over_s=9, problems=["9 s over"]), Result(over_s=2)]

    row = page.row(SCENARIOS[0], results)

    assert (row["ok"], row["runs"], row["gpu_seconds_over"]) == (False, 3, 9)
    assert json.loads(json.dumps(row)) == row


def test_split_plays_every_scenario_once_and_the_paused_ones_together():
    """A row that no place plays would be missing without a word."""
    parts = shards.split(SCENARIOS, 3)

    names = [one.name for part in parts for one in part]
    assert sorted(names) == sorted(ALL)
    assert sum(any(one.condition == PAUSED for one in part) for part in parts) == 1
    assert shards.split(SCENARIOS[:2], 3) == [SCENARIOS[:2]]


def test_rows_of_a_place_that_died_are_there_and_say_so():
    """Half a table that looks whole would be the worst of all."""
    rows = shards.rows_of(SCENARIOS[:2], b"", -9)

    assert [row["name"] for row in rows] == [one.name for one in SCENARIOS[:2]]
    assert all(row["problems"] == ["its place ended with -9 and said nothing"] for row in rows)
    assert not any(row["ok"] for row in rows)


def test_wait_ends_when_the_run_is_told_to_end():
    """Ctrl-C must not take the minutes that a session lives."""
    patience.GIVEN_UP.set()
    try:
        with pytest.raises(AssertionError, match="the run was told to end"):
            patience.wait_until(lambda: False, 600)
    finally:
        patience.GIVEN_UP.clear()


def test_program_refuses_a_name_that_there_is_not(capsys):
    """Nothing played must not look like nothing leaked."""
    assert program.main(["--only", "earthquake"]) == 2
    assert "No scenario earthquake. There are:" in capsys.readouterr().err
