"""uv: the user's own, or one in the cache."""

import shutil
import sys
from pathlib import Path

from tools.commands import run
from tools.say import ROOT, SetupError
from tools.store import Slot

LOCKS = ROOT / "tools/locks"
INSTALL_S = 600


def find() -> Path:
    """uv's path; brought from PyPI into the cache if PATH has none."""
    on_path = shutil.which("uv")
    if on_path:
        return Path(on_path)
    slot = Slot("uv", locked_version("uv"))
    return slot.fill(_install, "some 10 s from PyPI")


def venv(uv: Path, folder: Path, lock: Path) -> None:
    """A virtual environment in `folder` that holds exactly what `lock` names, hashes checked."""
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], limit_s=INSTALL_S)
    sync(uv, folder / "bin/python", lock)


def sync(uv: Path, python: Path, lock: Path) -> None:
    """Make the environment of `python` hold exactly what `lock` names."""
    command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock]
    run(command, limit_s=INSTALL_S)


def _install(folder: Path) -> None:
    """By pip; the venv that holds pip goes again, uv is one program of its own."""
    helper = folder / "venv"
    try:
        run([sys.executable, "-m", "venv", helper], limit_s=INSTALL_S)
    except SetupError as error:
        raise SetupError(
            f"{error}\nPython's venv module is missing or broken.\n"
            "Try: apt-get install python3-venv, or install uv (https://docs.astral.sh/uv)"
        ) from error
    pip = [helper / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes"]
    run([*pip, "-r", LOCKS / "uv.lock"], limit_s=INSTALL_S)
    shutil.copy2(helper / "bin/uv", folder / "uv")
    shutil.rmtree(helper)


def locked_version(package: str) -> str:
    """The version that a lock of one package pins."""
    text = (LOCKS / f"{package}.lock").read_text()
    for line in text.splitlines():
        if line.startswith(f"{package}=="):
            return line.split("==")[1].split()[0]
    raise SetupError(f"tools/locks/{package}.lock pins no {package}.")
