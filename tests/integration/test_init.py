"""From an empty project to a foundation: `mayfly init`, then `pulumi up`, as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local.cloud import LocalCloud, Options
from mayfly import names
from mayfly.cloud import connect
from tests.conftest import ROOT
from tests.provider.engine import find_engine

LINKED = (".venv", "__main__.py", "components", "mayfly", "profiles", "reaper", "startup")
TOKEN = "hf_made_up_for_this_test"
UP_LIMIT_S = 300


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A project in which nobody has made anything by hand."""
    directory = tmp_path_factory.mktemp("local")
    settings = {"hub_mb": 0, "fresh": True, "scheduler_speedup": 0.001}
    cloud = LocalCloud(Options(directory=directory, settings=settings))
    yield cloud
    cloud.stop()


@pytest.fixture
def shell(local: LocalCloud, tmp_path: Path):
    """Runs a command in a fresh checkout, with the exports of the local cloud."""
    exports = local.describe()["exports"]
    path = exports["PATH"].replace("$PATH", f"{find_engine().parent}:{os.environ['PATH']}")
    environment = {**os.environ, **exports, "PATH": path}
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    for file in ROOT.glob("Pulumi*.yaml"):
        shutil.copy(file, tmp_path)

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=UP_LIMIT_S,
        )

    os.environ.update(environment)
    run.folder = tmp_path
    return run


def mayfly(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "mayfly.cli", *words)


def test_foundation_comes_up_when_only_init_ran_before(local: LocalCloud, shell) -> None:
    """Two commands, sealed by the key that init made; a second init changes nothing."""
    first = shell(*mayfly("init", "--yes", "--hf-token-stdin"), stdin=f"{TOKEN}\n")
    assert first.returncode == 0, first.stderr
    files = {f.name: f.read_text() for f in shell.folder.glob("Pulumi.*.yaml")}
    up = shell("pulumi", "up", "--yes", "--skip-preview", "--stack", "foundation")
    assert up.returncode == 0, up.stdout + up.stderr
    again = shell(*mayfly("init", "--yes", "--no-hf-token"))

    cloud = connect(local.world.project)
    bucket = names.bucket(cloud.project, "state")
    assert "has all of it already" in again.stderr
    assert files == {f.name: f.read_text() for f in shell.folder.glob("Pulumi.*.yaml")}
    assert 'hourlyUsd: "52.96"' in files["Pulumi.dev.yaml"]
    foundation = yaml.safe_load(files["Pulumi.foundation.yaml"])
    assert foundation["secretsprovider"].startswith(f"gcpkms://projects/{cloud.project}/")
    state = cloud.storage.get(bucket, names.stack_state("foundation"))
    assert state is not None
    assert json.loads(state.data)["checkpoint"]["latest"]["secrets_providers"]["type"] == "cloud"
    assert cloud.secrets.access(f"projects/{cloud.project}/secrets/mayfly-hf-token") == TOKEN
    everything = first.stderr + first.stdout + up.stdout + "".join(files.values())
    assert TOKEN not in everything + state.data.decode()
    assert "hf_token_secret" in up.stdout
    assert cloud.storage.get(bucket, names.ENGINE_MANIFEST) is not None
