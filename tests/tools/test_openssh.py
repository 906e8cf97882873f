"""OpenSSH for the local cloud's machines, fetched without root and without an installed server."""

import pytest

from tools import openssh
from tools.say import SetupError


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without OpenSSH, and a PATH to fill."""
    monkeypatch.setattr(openssh, "SYSTEM", (tmp_path / "no-sshd",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_setup_names_what_is_missing_when_there_is_no_apt_get(bare):
    """Elsewhere than on Debian the server has to be installed by hand."""
    with pytest.raises(SetupError, match=r"no apt-get\.\nTry: install OpenSSH's server and client"):
        openssh.find()


def test_setup_keeps_nothing_when_apt_get_fails(bare, tmp_path):
    """A half-filled folder would be taken for a server."""
    for name in ("apt-get", "dpkg-deb"):
        (bare / name).write_text("#!/bin/sh\necho 'E: no mirror answers' >&2\nexit 100\n")
        (bare / name).chmod(0o755)

    with pytest.raises(SetupError, match="E: no mirror answers"):
        openssh.find()

    assert list((tmp_path / "cache").glob("mayfly/sshd/[!.]*")) == []


def test_setup_takes_the_systems_own_when_it_has_all_of_it(bare, tmp_path, monkeypatch):
    """It is newer than anything that we would bring."""
    programs = [tmp_path / name for name in ("sshd", "ssh", "sftp")]
    for program in programs:
        program.touch()
    monkeypatch.setattr(openssh, "SYSTEM", tuple(programs))
    monkeypatch.setattr(openssh, "sftp_server", lambda: tmp_path)

    assert openssh.find() == programs[0]
