"""`mayfly ssh-config`: what it writes into a user's ~/.ssh, and that it takes it away again."""

import os
from pathlib import Path

import pytest

from mayfly import cli, ssh_config
from tests.desk.google import Google

GCLOUD = r"""#!/bin/sh
echo '/usr/bin/ssh -t -i /home/u/.ssh/google_compute_engine -o CheckHostIP=no' \
  '-o StrictHostKeyChecking=no -o UserKnownHostsFile=/home/u/.ssh/google_compute_known_hosts' \
  '-o "ProxyCommand '"'/usr/bin/python3' '-S' 'gcloud.py' 'start-iap-tunnel' '%p'"'"' \
  '-o ProxyUseFdpass=no u_example_com@compute.77'
"""
OWN = "Host old\n  User me\n"


@pytest.fixture
def home(google: Google, checkout: Path, stub, tmp_path: Path) -> Path:
    """A home whose ~/.ssh/config has something in it already, and a serving session "dev"."""
    stub("gcloud", GCLOUD)
    google.add_vm("dev")
    found = tmp_path / "home"
    (found / ".ssh").mkdir(parents=True)
    (found / ".ssh/config").write_text(OWN)
    os.environ["HOME"] = str(found)
    return found


def test_ssh_config_writes_a_file_of_its_own(home):
    """What the user has written is theirs: it gets one line, ahead of every Host."""
    assert cli.main(["ssh-config", "dev", "--yes"]) == 0

    assert (home / ".ssh/config").read_text() == f"Include ~/.ssh/mayfly/*.conf\n{OWN}"
    assert (home / ".ssh/mayfly/dev.conf").read_text() == (
        "Host mayfly-dev\n"
        '  IdentityFile "/home/u/.ssh/google_compute_engine"\n'
        "  CheckHostIP no\n"
        '  UserKnownHostsFile "/home/u/.ssh/google_compute_known_hosts"\n'
        "  ProxyCommand '/usr/bin/python3' '-S' 'gcloud.py' 'start-iap-tunnel' '%p'\n"
        "  ProxyUseFdpass no\n"
        "  HostName compute.77\n"
        "  User u_example_com\n"
        "  StrictHostKeyChecking accept-new\n"
    )
    assert (home / ".ssh/mayfly/dev.conf").stat().st_mode & 0o77 == 0


def test_ssh_config_changes_nothing_when_nobody_confirms(home, capsys):
    """~/.ssh/config is not ours to change unasked."""
    assert cli.main(["ssh-config", "dev"]) == 2

    err = capsys.readouterr().err
    assert "Host mayfly-dev" in err
    assert "Try: the same command with --yes" in err
    assert (home / ".ssh/config").read_text() == OWN
    assert not (home / ".ssh/mayfly").exists()


def test_ssh_config_asks_no_second_time(home):
    """Once the line is there, a session's entry is a file of ours."""
    assert cli.main(["ssh-config", "dev", "--yes"]) == 0
    assert cli.main(["ssh-config", "dev"]) == 0

    assert (home / ".ssh/config").read_text().count("Include") == 1


def test_ssh_config_leaves_all_as_it_was_when_the_last_entry_is_removed(home):
    """A session lives for hours; ~/.ssh for years."""
    ssh_config.write("night", "Host mayfly-night\n")
    assert cli.main(["ssh-config", "dev", "--yes"]) == 0

    assert cli.main(["ssh-config", "dev", "--remove"]) == 0
    assert "Include" in (home / ".ssh/config").read_text()
    assert cli.main(["ssh-config", "night", "--remove"]) == 0

    assert (home / ".ssh/config").read_text() == OWN
    assert cli.main(["ssh-config", "night", "--remove"]) == 0


def test_ssh_config_keeps_a_config_that_is_a_link(home):
    """Dotfiles are often links into a repository."""
    real = home / "dotfiles"
    (home / ".ssh/config").rename(real)
    (home / ".ssh/config").symlink_to(real)

    assert cli.main(["ssh-config", "dev", "--yes"]) == 0

    assert (home / ".ssh/config").is_symlink()
    assert real.read_text().endswith(OWN)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ssh-config", "--remove"], "Whose entry?"),
        (["ssh-config", "../x", "--remove"], "cannot be a session"),
        (["ssh-config", "bev", "--yes"], "No session 'bev'"),
    ],
)
def test_ssh_config_exits_2_when_the_session_cannot_be_meant(home, capsys, words, named):
    """Nothing is written or removed then."""
    assert cli.main(words) == 2

    assert named in capsys.readouterr().err
    assert (home / ".ssh/config").read_text() == OWN


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("#!/bin/sh\nexit 1\n", "gcloud ended with status 1"),
        ("#!/bin/sh\necho ssh -t\n", "names no user@host"),
    ],
)
def test_ssh_config_exits_1_when_gcloud_does_not_say_how(home, stub, capsys, script, named):
    """An entry that leads nowhere is worse than none."""
    stub("gcloud", script)

    assert cli.main(["ssh-config", "dev", "--yes"]) == 1

    assert named in capsys.readouterr().err
    assert (home / ".ssh/config").read_text() == OWN
