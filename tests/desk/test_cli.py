"""Exit codes and messages: scripts read the first, tired people the second."""

import json
import os
import subprocess
import sys

import pytest

from mayfly import cli
from mayfly.errors import FailedError, RefusedError, WrongInputError
from tests.conftest import ROOT
from tests.desk.google import PROJECT, Google

NEVER = ("pulumi", "pulumi_gcp", "google.auth", "grpc", "pydantic", "matplotlib")
HEAVY = (*NEVER, "requests", "rich", "yaml")


@pytest.mark.parametrize(
    ("words", "heavy", "says"),
    [
        (["--help"], HEAVY, "demo"),
        (["status"], NEVER, "no machine costs money"),
        (["status", "--json"], (*NEVER, "rich"), '"sessions": []'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_imports_nothing_heavy_when_it_is_a_daily_one(
    words, heavy, says, google: Google, checkout
):
    """A command that takes a second to say its own name is not used."""
    script = (
        f"import sys; from mayfly.cli import main; code = main({words!r})\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )

    assert result.returncode == 0
    assert says in result.stdout
    assert result.stderr.strip() == "[]"


def test_import_check_sees_red_when_something_heavy_is_imported():
    """The twin of the test above."""
    script = f"import sys, yaml; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert result.stdout.strip() == "['yaml']"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([name, "--help"] for name in ("demo", "local", "status", "connect", "down", "seed")),
        ["local", "up", "--help"],
        ["local", "down", "--help"],
    ],
)
def test_every_command_explains_itself_when_asked(words, capsys):
    """Help is the manual that is at hand."""
    assert cli.main(words) == 0
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["down", "Bad_Name"], "'Bad_Name' cannot be a session: a letter, then"),
        (["connect", "Bad_Name"], "'Bad_Name' cannot be a session"),
        (["connect", "--port", "70000"], "--port 70000: a port is 1 to 65535"),
        (["connect", "--port", "many"], "many"),
        (["down"], "Name one session, or say --all"),
        (["down", "dev", "--all"], "Name one session, or say --all"),
        (["seed", "no-such-model"], "'no-such-model'. Valid: kimi-k2.5"),
        (["seed", "kimi-k2.5", "--stack", "Bad_Name"], "'Bad_Name' cannot be a session"),
        (["local", "up", "--provider", "fake"], "--provider fake: valid are stand-in, real"),
        (["local", "up", "--setting", "driver"], "--setting driver: it must be KEY=VALUE"),
        (["no-such-command"], "no-such-command"),
        (["status", "--yaml"], "--yaml"),
    ],
)
def test_command_exits_2_naming_the_value_when_the_input_is_wrong(words, named, checkout, capsys):
    """2 promises that nothing was attempted; the value tells what to correct."""
    os.environ["GOOGLE_PROJECT"] = PROJECT

    assert cli.main(words) == 2

    assert named in capsys.readouterr().err


def test_local_up_finds_a_pattern_in_the_users_own_folder(checkout, capfd):
    """The local cloud starts in another folder, where the name would mean nothing."""
    (checkout / "monday.yaml").write_text("capacities: []\n")

    assert cli.main(["local", "up", "--setting", "capacity=monday.yaml"]) == 2

    assert "setting capacity: monday has 'capacities'" in capfd.readouterr().err


def test_command_exits_2_when_there_is_no_project_folder(tmp_path, monkeypatch, capsys):
    """Run from the wrong folder, it must say so and not ask Google about nothing."""
    monkeypatch.chdir(tmp_path)

    assert cli.main(["status"]) == 2

    err = capsys.readouterr().err
    assert f"No Pulumi.yaml of mayfly in {tmp_path}" in err


def test_command_exits_2_when_the_folder_is_another_program(tmp_path, monkeypatch, capsys):
    """Somebody else's Pulumi.yaml must not be taken for ours."""
    (tmp_path / "Pulumi.yaml").write_text("name: other\n")
    monkeypatch.chdir(tmp_path)

    assert cli.main(["down", "dev"]) == 2

    assert "No Pulumi.yaml of mayfly" in capsys.readouterr().err


def test_command_exits_2_naming_the_file_when_a_yaml_is_broken(checkout, capsys):
    """A traceback of a parser names no file."""
    (checkout / "Pulumi.dev.yaml").write_text("config: [\n")

    assert cli.main(["status"]) == 2

    assert "Pulumi.dev.yaml cannot be read" in capsys.readouterr().err


def test_project_is_taken_from_the_foundation_when_the_environment_names_none(
    checkout, google: Google, capsys
):
    """Every stack follows the foundation; its project is the one to ask."""
    del os.environ["GOOGLE_PROJECT"]
    (checkout / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: other\n")
    (checkout / "Pulumi.foundation.yaml").write_text("config:\n  gcp:project: mine\n")

    assert cli.main(["status", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["project"] == "mine"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FailedError("what", "meaning", "remedy"), 1),
        (WrongInputError("what", "meaning", "remedy"), 2),
        (RefusedError("what", "meaning", "remedy"), 3),
        (RuntimeError("what"), 1),
    ],
)
def test_main_prints_lines_and_no_traceback_when_a_command_raises(error, code, capsys):
    """A traceback is noise to the user, and a failure that exits 0 is a lie."""

    @cli.app.command("raise-for-tests")
    def raise_for_tests() -> None:
        raise error

    try:
        assert cli.main(["raise-for-tests"]) == code
    finally:
        cli.app.registered_commands.pop()

    err = capsys.readouterr().err
    assert "what" in err
    assert "Traceback" not in err
    if code != 1 or isinstance(error, FailedError):
        assert err.splitlines() == ["what", "meaning", "remedy"]


def test_main_shows_the_traceback_when_debugging():
    """The one way to see where an unknown error comes from."""

    @cli.app.command("raise-for-tests")
    def raise_for_tests() -> None:
        raise RuntimeError("deep inside")

    os.environ["MAYFLY_DEBUG"] = "1"
    try:
        with pytest.raises(RuntimeError, match="deep inside"):
            cli.main(["raise-for-tests"])
    finally:
        cli.app.registered_commands.pop()
