"""CHANGELOG.md has the form that a release is cut from, and a release takes its section."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CHANGELOG = ROOT / "CHANGELOG.md"
NOTES = ROOT / ".github/release_notes.py"
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
SECTION = re.compile(r"^## \[(?:Unreleased|\d+\.\d+\.\d+)\](?: - \d{4}-\d\d-\d\d)?$")
RELEASED = """# Changelog

## [Unreleased]

### Added

- what comes

## [0.1.0] - 2026-12-01

### Added

- what came

[Unreleased]: https://example.com
"""


def malformed(text: str) -> list[str]:
    """Headings that Keep a Changelog does not know."""
    found = [line for line in text.splitlines() if re.match(r"##+ ", line)]
    kinds = {f"### {kind}" for kind in KINDS}
    return [h for h in found if not SECTION.match(h) and h not in kinds and h[:5] != "#### "]


def told(folder, version: str, changelog: str) -> "subprocess.CompletedProcess[str]":
    """What the release's step says, in a checkout with that changelog."""
    (folder / ".github").mkdir()
    (folder / ".github/release_notes.py").write_text(NOTES.read_text())
    (folder / "CHANGELOG.md").write_text(changelog)
    (folder / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    return subprocess.run(
        [sys.executable, folder / ".github/release_notes.py", version],
        capture_output=True,
        text=True,
        check=False,
    )


def test_changelog_keeps_its_form():
    """A release finds its section by the heading."""
    text = CHANGELOG.read_text()

    assert malformed(text) == []
    assert "## [Unreleased]" in text


def test_form_check_turns_red_when_a_heading_is_none():
    """The twin."""
    assert malformed("## Unreleased\n### New\n### Added\n") == ["## Unreleased", "### New"]


def test_release_takes_its_own_section(tmp_path):
    """Neither what comes after it nor what has not been released."""
    done = told(tmp_path, "0.1.0", RELEASED)

    assert (done.returncode, done.stdout) == (0, "### Added\n\n- what came\n")


@pytest.mark.parametrize(
    ("version", "changelog", "says"),
    [
        ("0.2.0", RELEASED, "the tag says 0.2.0, pyproject.toml 0.1.0"),
        ("0.1.0", RELEASED.replace("[0.1.0]", "[0.0.9]"), "no section [0.1.0]"),
        ("0.1.0", RELEASED.replace("### Added\n\n- what came\n", ""), "no section [0.1.0]"),
    ],
)
def test_release_is_refused_when_there_is_nothing_to_say(tmp_path, version, changelog, says):
    """A release with the wrong notes is worse than a red run."""
    done = told(tmp_path, version, changelog)

    assert done.returncode == 1
    assert says in done.stderr
