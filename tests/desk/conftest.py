"""A Google of our own, and a checkout to stand in."""

import os
import sys
from pathlib import Path

import pytest

from mayfly import names, profile
from tests.desk.google import Google, serving
from tests.desk.pulumi_stub import SCRIPT, WEIGHTS, Pulumi


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


@pytest.fixture
def pulumi(stub, tmp_path: Path) -> Pulumi:
    stub("pulumi", SCRIPT.format(python=sys.executable))
    home = tmp_path / "stub"
    home.mkdir()
    os.environ["STUB_HOME"] = str(home)
    found = Pulumi(home)
    found.save()
    return found


@pytest.fixture
def seeded(google: Google) -> Google:
    kimi = profile.load("kimi-k2.5")
    manifest = f"{names.model_prefix(kimi.model, kimi.revision)}/{names.MANIFEST}"
    google.objects[WEIGHTS, manifest] = b"{}"
    return google
