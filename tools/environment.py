"""`.venv`: the locked packages, the project itself, and links to the tools."""

import hashlib
import os
import sys
import sysconfig
from pathlib import Path

from tools import uv
from tools.commands import run
from tools.say import ROOT, say

VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements.lock"
# Every command and all that it imports, once: what Python compiles then it keeps. A shell with
# PYTHONDONTWRITEBYTECODE, as in many containers, would compile it at each start.
LOAD = (
    "import importlib, pkgutil, mayfly.cli, mayfly.commands as room\n"
    "for each in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
    "    importlib.import_module(each.name)"
)
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


def make() -> None:
    """`.venv` in step with requirements.lock; nothing is done if it is."""
    stamp, wanted = VENV / "mayfly.stamp", _wanted()
    if stamp.is_file() and stamp.read_text() == wanted and (BIN / "mayfly").exists():
        return
    tool = uv.find()
    say("Python packages: some 30 s the first time, into .venv")
    if not (BIN / "python").exists():
        run([tool, "venv", "--quiet", "--python", sys.executable, VENV], limit_s=120)
    uv.sync(tool, BIN / "python", LOCK)
    # Without isolation: the build backend is among the locked packages.
    words = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--python"]
    run([tool, *words, BIN / "python", "--editable", ROOT], limit_s=300)
    run([BIN / "python", "-c", LOAD], limit_s=300, folder=ROOT, more=BYTECODE)
    stamp.write_text(wanted)


def link(name: str, target: Path) -> None:
    """`.venv/bin/<name>` -> target; replaced at once, never missing in between."""
    place = BIN / name
    if place.is_symlink() and os.readlink(place) == str(target):
        return
    fresh = BIN / f".{name}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(place)


def language_host(engine: Path) -> None:
    """`pulumi-language-python` in .venv only where the engine has no real one."""
    place, real = BIN / "pulumi-language-python", engine.resolve().parent
    if (real / place.name).exists() or _on_path_elsewhere(place.name):
        place.unlink(missing_ok=True)
        return
    script = ROOT / "tools/language_host.py"
    text = f'#!/bin/sh\nexec "{BIN}/python" -P "{script}" "$@"\n'
    if not place.is_file() or place.read_text() != text:
        fresh = BIN / f".{place.name}.new"
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(place)


def _on_path_elsewhere(name: str) -> bool:
    folders = [Path(f) for f in os.get_exec_path() if f]
    return any(os.access(f / name, os.X_OK) for f in folders if f.resolve() != BIN.resolve())


def _wanted() -> str:
    """What the environment was made from; another Python or another checkout makes it anew."""
    digest = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    return f"{digest.hexdigest()} {sysconfig.get_python_version()} {ROOT}\n"
