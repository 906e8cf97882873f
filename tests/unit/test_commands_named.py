"""What the product tells people to run exists."""

import re

import pytest
import typer

from mayfly.cli import app
from tests.conftest import ROOT

# Where a command is meant, not the product's name in a sentence.
NAMED = re.compile(r"(?:`|\$ |[Tt]ry: |[Rr]un: |then: |^)mayfly ([a-z][a-z-]+)", re.MULTILINE)
ROOMS = ("components", "mayfly", "reaper", "startup", "bench", "local", "tools")
READ = (
    *("*.md", "docs/**/*.md", ".github/**/*.yml", "profiles/*.yaml", "Pulumi*.yaml"),
    *(f"{room}/**/*.{kind}" for room in ROOMS for kind in ("py", "sh", "service")),
)
VERBS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def unknown(text: str) -> list[str]:
    """The commands that a text names and that `mayfly` does not have."""
    return [verb for verb in NAMED.findall(text) if verb not in VERBS]


def test_every_named_command_exists():
    """A remedy that answers "No such command" is worse than none."""
    files = [path for pattern in READ for path in ROOT.glob(pattern)]
    wrong = {str(path.relative_to(ROOT)): unknown(path.read_text()) for path in files}

    assert len(files) > 150
    assert {path: verbs for path, verbs in wrong.items() if verbs} == {}


@pytest.mark.parametrize(
    "text",
    [
        "Try: mayfly setup",
        "run: mayfly nurse",
        "`mayfly grow` makes one",
        "x\nmayfly gondola -f\n",
    ],
)
def test_a_command_that_does_not_exist_is_seen(text):
    """The gate's twin."""
    assert unknown(text)


def test_a_command_that_exists_is_not_held_against_a_text():
    """Nor is the product's name in a sentence."""
    assert (
        unknown("Try: mayfly seed kimi-k2.5, or `mayfly local up`: it costs until mayfly ends it")
        == []
    )
