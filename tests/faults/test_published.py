"""The committed table, and what README makes of it: one truth, in three places."""

import json
import re
from typing import Any

import pytest

from tests.faults import page, publish
from tests.faults.measure import Result
from tests.faults.scenario import ALL
from tests.faults.timing import production

AGAIN = "Try: make faults RUNS=3 OUT=docs/results/teardown.json"


def published() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(publish.RESULT.read_text())
    return said


def stale(said: dict[str, Any], table: str, readme: str) -> list[str]:
    """What no longer follows from the result."""
    rows = {row["name"]: row for row in said["scenarios"]}
    problems = [f"{name} was not played" for name in ALL.keys() - rows.keys()]
    problems += [f"{name} is no scenario" for name in rows.keys() - ALL.keys()]
    for name, one in ALL.items():
        bound_s = round(one.bound(production()), 1)
        if name in rows and rows[name]["bound_seconds_production"] != bound_s:
            problems.append(f"{name}: the defaults allow {bound_s} s now")
    if table != page.page(said):
        problems.append("teardown.md is not what teardown.json says")
    if readme != publish.with_promise(readme, said["scenarios"]):
        problems.append("README.md does not say the table's worst line")
    return problems


def test_page_and_readme_say_what_the_result_says():
    """A promise that nothing holds up is the way to a bill."""
    table = publish.RESULT.with_suffix(".md").read_text()

    assert not stale(published(), table, publish.README.read_text()), AGAIN


def test_every_row_of_the_result_held_and_shows_its_log():
    """A red row is a bug to mend, not a figure to publish."""
    for row in published()["scenarios"]:
        assert row["ok"], row
        assert row["gpu_seconds_over"] <= row["bound_seconds"], row
        assert row["gpu_left"] == 0, row
        assert (publish.RESULT.parent / row["log"]).read_text().count("result:") == row["runs"]


def test_stale_sees_it_when_one_of_the_three_says_something_else():
    """The twin: a table by hand, a README of yesterday, a row that went missing, a new default."""
    said = published()
    table, readme = publish.RESULT.with_suffix(".md").read_text(), publish.README.read_text()
    fewer = {**said, "scenarios": said["scenarios"][1:]}
    worse = json.loads(json.dumps(said))
    worse["scenarios"][0]["bound_seconds_production"] = 99999

    assert stale(said, f"{table}\n", readme) == ["teardown.md is not what teardown.json says"]
    assert stale(said, table, readme.replace("Of ", "of ")) == [
        "README.md does not say the table's worst line"
    ]
    assert f"{said['scenarios'][0]['name']} was not played" in stale(fewer, table, readme)
    first, *others = stale(worse, table, readme)
    assert "the defaults allow" in first
    assert len(others) == 2


def rows(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [page.row(ALL[name], [Result(**more)]) for name in names]


def test_promise_is_the_longest_bound_and_counts_what_did_not_hold():
    """Whoever quotes it must not have to read forty lines first."""
    said = page.promise(
        [*rows("idle", "only-the-deadline-left"), *rows("watchdog-hung", problems=["late"])]
    )

    assert said == (
        "Of 3 faults, each played once on the local cloud, 2 ended within the bound that the "
        "design sets, and none left a GPU. With the default settings, GPUs are free 12 min "
        "(`watchdog-hung`) after the session should have ended, and where two of the three layers "
        "are off, 3.7 h (`only-the-deadline-left`) after it, at the latest."
    )


def test_merged_keeps_what_was_not_played_again_and_dates_what_was():
    """One row, played again, must not throw a table of forty away, nor make it look new."""
    before = {
        "date": "1",
        "seconds": 60,
        "command": "all",
        "scenarios": rows("idle", "watchdog-hung"),
    }
    said = {"date": "2", "commit": "abc", "seconds": 5, "command": "one", "scenarios": []}
    again = [{**row, "date": "2", "commit": "abc"} for row in rows("watchdog-hung", over_s=7)]

    whole = publish.merged(before, said, again)
    afresh = publish.merged(before, said, rows("watchdog-hung", "idle"))

    assert [row["gpu_seconds_over"] for row in whole["scenarios"]] == [0, 7]
    assert (whole["date"], whole["seconds"], whole["command"]) == ("1", 60, "all")
    idle, hung = page.page(whole).splitlines()[-2:]
    assert idle.endswith("| - |")
    assert hung.endswith("| -, 2 at abc |")
    assert (afresh["seconds"], afresh["command"]) == (5, "one")


def test_publish_writes_the_rows_logs_and_the_page_beside_the_result(tmp_path):
    """A figure whose log is gone cannot be looked into."""
    logs = tmp_path / "runs/one"
    logs.mkdir(parents=True)
    (logs / "idle-1.log").write_text("1 s  result: fine\n")
    said = {
        "date": "2",
        "commit": "abc",
        "seconds": 5,
        "command": "c",
        "scenarios": rows("idle", log="one/idle-1.log"),
    }

    publish.publish(said, logs, tmp_path / "out/x.json")

    row = json.loads((tmp_path / "out/x.json").read_text())["scenarios"][0]
    assert (tmp_path / "out" / row["log"]).read_text() == "== one/idle-1.log\n1 s  result: fine\n"
    assert f"[log]({row['log']}) |" in (tmp_path / "out/x.md").read_text()
    assert (row["date"], row["commit"]) == ("2", "abc")


def test_with_promise_refuses_a_readme_without_its_marks():
    """A sentence that lost its place would stay as it was for ever."""
    with pytest.raises(ValueError, match=re.escape(f"README.md has no {publish.BEGIN}")):
        publish.with_promise("# mayfly\n", rows("idle"))
