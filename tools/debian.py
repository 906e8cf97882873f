"""Debian's packages unpacked into the user's cache: what `apt-get install` would bring, without
root and without touching the system."""

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.commands import run
from tools.say import SetupError

LIMIT_S = 300.0


def release() -> str:
    """e.g. "debian-12": libraries are the system's, so a new release wants new packages."""
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    return f"{said.get('ID', 'linux')}-{said.get('VERSION_ID', 'rolling')}"


def unpack(folder: Path, packages: Sequence[str], what: str, remedy: str) -> str:
    """The packages and all that the system lacks for them, below folder/tree.

    Returns their libraries' folders as LD_LIBRARY_PATH has them. what and remedy: for the
    SetupError where there is no apt-get.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SetupError(f"There is no {what} on this machine, and no apt-get.\n{remedy}")
    work = folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={work / 'lists'}"]
    apt += ["-o", f"Dir::Cache={work}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    run([*apt, "update"], limit_s=LIMIT_S)
    wanted = ["install", "--reinstall", "--download-only", "--no-install-recommends", "-y"]
    run([*apt, *wanted, *packages], limit_s=LIMIT_S)
    for package in sorted(work.glob("archives/*.deb")):
        run(["dpkg-deb", "--extract", package, folder / "tree"], limit_s=LIMIT_S)
    shutil.rmtree(work)
    return ":".join(sorted({str(path.parent) for path in folder.glob("tree/**/*.so*")}))
