"""The measurement of the desk's speed: that it would see a slow or a heavy command."""

import sys

import pytest

from bench import desk_speed
from bench.desk_speed import COMMANDS, HEAVY, LIMITS_S, desk, heavy, page, problems

ROW = {"least_s": 0.2, "median_s": 0.21, "most_s": 0.3, "heavy": []}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith("mayfly")])
def test_no_daily_command_loads_what_only_pulumi_or_a_login_needs(name):
    """The seconds depend on the machine; what is loaded does not."""
    with desk(2) as (folder, environment):
        assert heavy(COMMANDS[name], folder, environment) == []


def test_heavy_package_is_seen_when_it_is_loaded():
    """The twin of the look above."""
    words = (sys.executable, "-c", "import google.auth")

    with desk(0) as (folder, environment):
        assert heavy(words, folder, environment) == ["google.auth"]
    assert "pulumi_gcp" in HEAVY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"least_s": 1.01}, "mayfly status takes 1.01 s; the limit is 1.0 s"),
        ({"heavy": ["grpc"]}, "mayfly status loads grpc"),
    ],
)
def test_problem_is_named_when_a_promise_is_broken(change, said):
    """A page of good figures must not be written over a bad one."""
    rows = [{"command": "python -c pass", **ROW}, {"command": "mayfly status", **ROW}]

    assert problems(rows) == []
    assert problems([rows[0], rows[1] | change]) == [said]


def test_page_tells_how_it_was_made_and_every_command():
    """Whoever doubts a figure makes it again."""
    rows = [{"command": name, **ROW} for name in COMMANDS]

    text = page(rows, runs=11, vms=4, date="2026-11-23")

    assert "python bench/desk_speed.py --runs 11 --vms 4" in text
    for name in COMMANDS:
        limit = LIMITS_S.get(name, "")
        assert f"| `{name}` | 0.20 | 0.21 | 0.30 | {limit} | 1.0 |" in text


def test_page_is_not_written_when_a_promise_is_broken(tmp_path, monkeypatch, capsys):
    """Red is red."""
    slow = [{"command": "python -c pass", **ROW}, {"command": "mayfly --help", **ROW, "least_s": 9}]
    monkeypatch.setattr(desk_speed, "measure", lambda runs, vms: slow)
    monkeypatch.setattr("sys.argv", ["desk_speed", "--out", str(tmp_path / "page.md")])

    assert desk_speed.main() == 1
    assert "mayfly --help takes 9 s; the limit is 0.3 s" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
