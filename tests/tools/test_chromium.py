"""Chromium for the page's tests, fetched without root and without an installed browser."""

from pathlib import Path

import pytest

from tools import chromium
from tools.say import SetupError


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser, and a PATH to fill."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_browser_names_what_is_missing_when_there_is_no_apt_get(bare):
    """Elsewhere than on Debian it has to be installed by hand."""
    with pytest.raises(SetupError, match=r"no apt-get\.\nTry: apt-get install chromium"):
        chromium.find()


def test_browser_is_the_systems_own_when_it_has_one(bare):
    """It is newer than anything that we would bring."""
    own = program(bare / "google-chrome")

    assert chromium.find() == own


def test_browser_is_not_a_snap(bare, tmp_path):
    """A snap sees no temporary folder of ours: it would start and then wait for its profile."""
    (bare / "chromium").symlink_to(program(tmp_path / "snap/bin/chromium"))

    with pytest.raises(SetupError, match="no apt-get"):
        chromium.find()
