"""OpenSSH's server and client: the system's own, or Debian's packages unpacked in the cache."""

import subprocess
from pathlib import Path

from tools import debian
from tools.say import SetupError
from tools.store import Slot

PACKAGES = ("openssh-server", "openssh-sftp-server", "openssh-client")
SYSTEM = (Path("/usr/sbin/sshd"), Path("/usr/bin/ssh"), Path("/usr/bin/sftp"))
REMEDY = "Try: install OpenSSH's server and client with the system's own package manager"


def find() -> Path:
    """sshd's program. Nothing is installed into the system, and no server is started there."""
    if all(path.is_file() for path in SYSTEM) and sftp_server():
        return SYSTEM[0]
    return Slot("sshd", debian.release()).fill(_unpack, "some 20 s from the distribution's mirror")


def sftp_server() -> Path | None:
    """The system's own, wherever the distribution puts it."""
    places = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
    found = (Path(place, "sftp-server") for place in places)
    return next((path for path in found if path.is_file()), None)


def _unpack(folder: Path) -> None:
    """What `apt-get install` would bring, with lists and a cache of our own: no root is needed."""
    libraries = debian.unpack(folder, PACKAGES, "OpenSSH server", REMEDY)
    program = folder / "tree/usr/sbin/sshd"
    tried = subprocess.run(
        [program, "-V"], env={"LD_LIBRARY_PATH": libraries}, capture_output=True, check=False
    )
    if b"OpenSSH" not in tried.stderr + tried.stdout:
        raise SetupError(f"The OpenSSH server of {debian.release()} does not run here.\n{REMEDY}")
    (folder / "sshd").symlink_to("tree/usr/sbin/sshd")
