"""The suite's own gate: what a test leaves open is found, where it was left."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LEAK = """
class Ring:
    def __init__(self):
        self.me, self.file = self, open(__file__)

def test_leaky():
    Ring()
"""
CHANGED = """
import os, pytest

@pytest.fixture(scope="module")
def place():
    os.environ["GOOGLE_PROJECT"] = "left"

def test_changed(place):
    pass
"""
CLEAN = """
def test_clean():
    pass
"""


def test_leaks_redden_their_own_module_when_nobody_else_would_see_them(tmp_path: Path) -> None:
    """In a later test it would send whoever reads the report to the wrong place."""
    for number, text in enumerate((LEAK, CHANGED, CLEAN)):
        (tmp_path / f"test_{number}.py").write_text(text)
    words = ["-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert "ERROR at teardown of test_leaky" in done.stdout, done.stdout
    assert "ResourceWarning: unclosed file" in done.stdout
    assert "ERROR at teardown of test_changed" in done.stdout
    assert "left the environment changed: ['GOOGLE_PROJECT']" in done.stdout
    assert "3 passed, 2 errors" in done.stdout
