"""A Google of our own, and a checkout to stand in."""

import os
from pathlib import Path

import pytest

from tests.desk.google import Google, serving


@pytest.fixture
def google():
    """A small Google that the environment leads to."""
    found = Google()
    with serving(found) as environment:
        os.environ.update(environment)
        yield found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, and the current one."""
    (tmp_path / "Pulumi.yaml").write_text("name: mayfly\nruntime: python\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stub(tmp_path_factory: pytest.TempPathFactory):
    """Puts a command of our own first on PATH: stub(name, script)."""
    folder = tmp_path_factory.mktemp("bin")
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    return make
