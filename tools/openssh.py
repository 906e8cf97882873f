"""OpenSSH's server and client: the system's own, or Debian's packages unpacked in the cache."""

import platform
import shutil
import subprocess
from pathlib import Path

from tools.commands import run
from tools.say import SetupError
from tools.store import Slot

PACKAGES = ("openssh-server", "openssh-sftp-server", "openssh-client")
SYSTEM = (Path("/usr/sbin/sshd"), Path("/usr/bin/ssh"), Path("/usr/bin/sftp"))
REMEDY = "Try: install OpenSSH's server and client with the system's own package manager"
LIMIT_S = 300.0


def find() -> Path:
    """sshd's program. Nothing is installed into the system, and no server is started there."""
    if all(path.is_file() for path in SYSTEM) and sftp_server():
        return SYSTEM[0]
    return Slot("sshd", release()).fill(_unpack, "some 20 s from the distribution's mirror")


def sftp_server() -> Path | None:
    """The system's own, wherever the distribution puts it."""
    places = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
    found = (Path(place, "sftp-server") for place in places)
    return next((path for path in found if path.is_file()), None)


def release() -> str:
    """e.g. "debian-12": libraries are the system's, so a new release wants new packages."""
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    return f"{said.get('ID', 'linux')}-{said.get('VERSION_ID', 'rolling')}"


def _unpack(folder: Path) -> None:
    """What `apt-get install` would bring, with lists and a cache of our own: no root is needed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SetupError(f"There is no OpenSSH server on this machine, and no apt-get.\n{REMEDY}")
    work = folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={work / 'lists'}"]
    apt += ["-o", f"Dir::Cache={work}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    run([*apt, "update"], limit_s=LIMIT_S)
    wanted = ["install", "--reinstall", "--download-only", "--no-install-recommends", "-y"]
    run([*apt, *wanted, *PACKAGES], limit_s=LIMIT_S)
    for package in sorted(work.glob("archives/*.deb")):
        run(["dpkg-deb", "--extract", package, folder / "tree"], limit_s=LIMIT_S)
    shutil.rmtree(work)
    program = folder / "tree/usr/sbin/sshd"
    libraries = ":".join(str(path.parent) for path in folder.glob("tree/**/lib*.so.*"))
    tried = subprocess.run(
        [program, "-V"], env={"LD_LIBRARY_PATH": libraries}, capture_output=True, check=False
    )
    if b"OpenSSH" not in tried.stderr + tried.stdout:
        raise SetupError(f"The OpenSSH server of {release()} does not run here.\n{REMEDY}")
    (folder / "sshd").symlink_to("tree/usr/sbin/sshd")
