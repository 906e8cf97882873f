"""Gates over startup/: linters, size, Python version. Each has a twin that feeds it a bad case."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components import startup_archive
from startup import run
from tests.scripts.conftest import STARTUP

BIN = Path(sys.executable).parent
SCRIPTS = sorted(STARTUP.glob("*.sh"))
WITH_PACKAGES = ("seed.py", "seed_hub.py")  # these run in the seeder's own environment
STDLIB_ONLY = sorted(p for p in STARTUP.glob("*.py") if p.name not in WITH_PACKAGES)


def shellcheck(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "shellcheck", "-x", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shfmt(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "shfmt", "-d", "-i", "2", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def newer_syntax(text: str) -> str:
    """Why Python 3.10 could not even read it; "" when it can."""
    try:
        ast.parse(text, feature_version=(3, 10))
    except SyntaxError as error:
        return str(error)
    return ""


def foreign_imports(text: str) -> set[str]:
    """Top-level modules imported that are neither the standard library's nor ours."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"startup", "mayfly"}


def test_scripts_are_clean_when_linted():
    """An unquoted variable costs a machine; a linter costs a second."""
    assert len(SCRIPTS) >= 10
    checked, formatted = shellcheck(*SCRIPTS), shfmt(*SCRIPTS)

    assert checked.returncode == 0, checked.stdout
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


def test_linters_see_red_when_a_script_is_bad(tmp_path):
    """A linter that was never red may not run at all."""
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/bash\nif [ $1 = x ]; then\n      rm $2; fi\n")

    assert "SC2086" in shellcheck(bad).stdout
    assert shfmt(bad).returncode != 0


@pytest.mark.parametrize("layer", ["session", "seed"])
def test_archive_fits_into_metadata_when_packed(layer):
    """Over its limit `pulumi up` refuses; here it is seen before."""
    assert startup_archive.build(startup_archive.files(layer)).text


@pytest.mark.parametrize("layer", ["session", "seed"])
def test_archive_holds_all_that_a_layer_runs_when_packed(layer):
    """A file that the other layer seemed to own alone would be missed on the machine."""
    files = startup_archive.files(layer)

    assert missing(files) == set()
    for stage in run.LAYERS[layer]:
        assert f"startup/{stage.script}" in files


def test_archive_gate_sees_red_when_a_module_is_left_out():
    """The check itself must find an import."""
    files = startup_archive.files("session")
    del files["startup/words.py"]

    assert missing(files) == {"startup/words.py"}


def missing(files: dict[str, Path]) -> set[str]:
    """Our modules that the archive's Python imports or its scripts run, and that it lacks."""
    wanted = set()
    for name, path in files.items():
        text = path.read_text()
        if name.endswith(".py"):
            wanted |= set(re.findall(r"^from startup\.(\w+) import", text, re.MULTILINE))
            for names in re.findall(r"^from startup import ([\w, ]+)$", text, re.MULTILINE):
                wanted |= set(names.split(", "))
        else:
            wanted |= set(re.findall(r"python3? -m startup\.(\w+)", text))
    have = set(files) | {name.replace("/__init__.py", ".py") for name in files}
    return {f"startup/{name}.py" for name in wanted} - have


@pytest.mark.parametrize(
    "path", [*STDLIB_ONLY, STARTUP.parent / "mayfly/idle.py"], ids=lambda p: p.name
)
def test_code_runs_on_a_bare_image_when_only_the_system_python_is_there(path):
    """Python 3.10 is what the older of our GPU images has, and nothing is installed there."""
    text = path.read_text()

    assert newer_syntax(text) == ""
    assert foreign_imports(text) == set()
    assert not re.search(r"\bdatetime\.UTC\b|import .*\bUTC\b|\btomllib\b|\bTaskGroup\b", text)


def test_code_gate_sees_red_when_code_needs_more():
    """Else it would be seen on the GPU machine."""
    assert newer_syntax("try:\n    pass\nexcept* ValueError:\n    pass\n")
    assert foreign_imports("import requests\nfrom yaml import load") == {"requests", "yaml"}


@pytest.mark.parametrize("path", sorted(STARTUP.glob("locks/*.lock")), ids=lambda p: p.name)
def test_lock_pins_every_package_when_read(path):
    """One package without a hash and the whole install is open."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]

    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==\S+ --hash=sha256:[0-9a-f]{64}", line), line


def test_vllm_unit_is_shut_in_when_read():
    """Each line is a way out of the sandbox that somebody would find."""
    lines = (STARTUP / "mayfly-vllm.service").read_text().splitlines()

    assert {
        "DynamicUser=yes",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "CapabilityBoundingSet=",
        "RestrictNamespaces=yes",
        "EnvironmentFile=/run/mayfly-key/env",
        "TimeoutStopSec=20",
        "KillMode=mixed",
    } <= set(lines)
    assert any(x.startswith("ReadOnlyPaths=/mnt/mayfly") for x in lines)
    files = [x for x in lines if x.startswith(("Environment=", "EnvironmentFile="))]
    assert files[-1] == "EnvironmentFile=/opt/mayfly/startup/mayfly-vllm.env"  # the last one wins
    environment = (STARTUP / "mayfly-vllm.env").read_text().splitlines()
    for setting in (
        "NCCL_ENV_PLUGIN=none",
        "NCCL_NET_PLUGIN=none",
        "NCCL_TUNER_PLUGIN=none",
        "NCCL_NET=Socket",
        "NCCL_IB_DISABLE=1",
        "NCCL_SOCKET_IFNAME=lo",
    ):
        assert setting in environment
