"""`mayfly ssh`, `exec` and `cp`: what gcloud is told, and what we end with."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from mayfly import cli
from tests.desk.google import PROJECT, ZONE, Google

# Notes its words and its input, and ends as the file "status" says.
GCLOUD = """#!{python}
import json, os, sys
folder = os.environ["STUB_FOLDER"]
with open(folder + "/calls", "a") as f: f.write(json.dumps(sys.argv[1:]) + chr(10))
with open(folder + "/input", "w") as f: f.write(sys.stdin.read())
sys.exit(int(open(folder + "/status").read()))
"""
COMMANDS = (["ssh", "{}"], ["exec", "{}", "--", "true"], ["cp", "{}:x", "y"])
THERE = ["--zone", ZONE, "--project", PROJECT, "--tunnel-through-iap", "--quiet"]


@pytest.fixture
def gcloud(google: Google, checkout: Path, stub):
    """A serving session "dev" and a gcloud that notes its calls; gcloud(status) sets its end."""
    stub("gcloud", GCLOUD.format(python=sys.executable))
    os.environ["STUB_FOLDER"] = str(checkout)
    google.add_vm("dev")

    def ends(status: int) -> None:
        (checkout / "status").write_text(str(status))

    ends(0)
    return ends


def calls(folder: Path) -> list[list[str]]:
    path = folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def words_for(command: list[str], session: str) -> list[str]:
    return [word.format(session) for word in command if word.format(session)]


def test_exec_quotes_every_word_for_the_remote_shell(gcloud, checkout):
    """A file name with a blank or a dollar must arrive as it was typed."""
    words = ["sh", "-c", 'echo "$1"', "x", "a  b;'c'"]

    assert cli.main(["exec", "dev", "--", *words]) == 0

    (call,) = calls(checkout)
    (command,) = [w for w in call if w.startswith("--command=")]
    assert shlex.split(command.removeprefix("--command=")) == words
    assert call[:3] == ["compute", "ssh", "mayfly-dev"]
    assert call[4:] == THERE


def test_exec_needs_no_session_when_there_is_one(gcloud, checkout):
    """What follows -- is never taken for a session's name."""
    assert cli.main(["exec", "--", "dev"]) == 0

    assert "--command=dev" in calls(checkout)[0]


@pytest.mark.parametrize("status", [0, 1, 3, 77])
def test_exec_ends_with_the_status_of_the_command(gcloud, status):
    """Scripts decide by it."""
    gcloud(status)

    assert cli.main(["exec", "dev", "--", "false"]) == status


def test_exec_ends_with_255_and_says_why_when_the_line_breaks(gcloud, capsys):
    """It is ssh's own word for it: no reader may take it for the command's."""
    gcloud(255)

    assert cli.main(["exec", "dev", "--", "true"]) == 255

    what, meaning, remedy = capsys.readouterr().err.strip().splitlines()
    assert "no line to mayfly-dev" in what
    assert "costs money until it is idle" in meaning
    assert "--troubleshoot" in remedy


def test_exec_exits_2_when_there_is_no_command(gcloud, checkout, capsys):
    """A login shell instead would hang a script."""
    assert cli.main(["exec", "dev"]) == 2

    assert "Try: mayfly exec dev -- nvidia-smi" in capsys.readouterr().err
    assert calls(checkout) == []


def test_ssh_hands_on_what_follows_the_dashes(gcloud, checkout):
    """A further forward, an agent: ssh knows how, we need not."""
    assert cli.main(["ssh", "dev", "--", "-L", "6006:localhost:6006"]) == 0

    assert calls(checkout) == [
        ["compute", "ssh", "mayfly-dev", *THERE, "--", "-L", "6006:localhost:6006"]
    ]


def test_ssh_ends_with_the_status_of_the_login(gcloud):
    """As ssh does."""
    gcloud(3)

    assert cli.main(["ssh"]) == 3


def test_cp_copies_to_the_session_and_from_it(gcloud, checkout):
    """The colon says which side is the session's."""
    (checkout / "there").mkdir()
    assert cli.main(["cp", "there", "dev:~/deep"]) == 0
    assert cli.main(["cp", ":results", "."]) == 0

    scp = ["compute", "scp", "--recurse"]
    assert calls(checkout) == [
        [*scp, "there", "mayfly-dev:~/deep", *THERE],
        [*scp, "mayfly-dev:results", ".", *THERE],
    ]


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [
        ("a", "b", "one of the two, and not both"),
        ("dev:a", "dev:b", "one of the two, and not both"),
        ("./a:b", "b", "one of the two, and not both"),
        ("no-such-file", "dev:", "no such file or folder here"),
    ],
)
def test_cp_exits_2_when_the_sides_cannot_be_meant(gcloud, checkout, capsys, source, target, named):
    """Nothing is attempted: scp would ask a host of that name."""
    assert cli.main(["cp", source, target]) == 2

    assert named in capsys.readouterr().err
    assert calls(checkout) == []


def test_cp_exits_1_when_something_did_not_arrive(gcloud, capsys):
    """Half a checkpoint must not look like one."""
    gcloud(1)

    assert cli.main(["cp", "dev:x", "y"]) == 1

    assert "Not everything was copied from dev:x to y" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("session", "status", "named"),
    [
        ("bev", 2, "No session 'bev' in"),
        ("", 2, "Which session?"),
        ("going", 1, "Session going is going: Compute says STOPPING."),
        ("early", 1, "Session early is not up yet: Compute says STAGING."),
        ("Bad_Name", 2, "'Bad_Name' cannot be a session"),
    ],
)
def test_command_says_it_in_three_lines_when_there_is_no_vm_to_enter(
    gcloud, google: Google, checkout, capsys, command, session, status, named
):
    """gcloud would try for a minute and then speak of keys."""
    for name, state in (("going", "STOPPING"), ("early", "STAGING")):
        google.instances[google.add_vm(name)]["status"] = state

    assert cli.main(words_for(command, session)) == status

    err = capsys.readouterr().err.strip()
    assert named in err
    assert len(err.splitlines()) == 3
    assert calls(checkout) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exits_2_when_there_is_no_session_at_all(
    google: Google, checkout, stub, capsys, command
):
    """The commonest one: it was idle and is gone."""
    stub("gcloud", "#!/bin/sh\n")

    assert cli.main(words_for(command, "")) == 2

    assert "Sessions there: none" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exits_2_when_there_is_no_gcloud(google: Google, checkout, capsys, command):
    """Said before anything is asked."""
    google.add_vm("dev")
    os.environ["PATH"] = str(checkout)

    assert cli.main(words_for(command, "dev")) == 2

    err = capsys.readouterr().err
    assert err.startswith("There is no gcloud on PATH.\n")
    assert len(err.strip().splitlines()) == 3
