"""The machine's SSH server: Debian's OpenSSH, unmodified, on the machine's own port 22.

It runs as the user who logs in, not as root: a host lends a machine one identity besides root's,
or none. So one login cannot change into another, which OS Login's users cannot either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.machine import rootfs

SFTP_FOLDERS = ("usr/lib/openssh", "usr/libexec/openssh", "usr/lib/ssh", "usr/libexec")
CONFIG = "/etc/ssh/sshd_config"
HOST_KEY = "/var/lib/machine/ssh/ssh_host_ed25519_key"
INSIDE = Path("/.machine/openssh")
HOST = Path("/")


@dataclass(frozen=True)
class OpenSsh:
    """root: "/" where the host has it installed, else the tree its packages were unpacked in."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / "usr/sbin/sshd"

    def client(self, name: str) -> Path:
        """ssh, sftp, scp or ssh-keygen."""
        return self.root / "usr/bin" / name

    @property
    def sftp_server(self) -> Path:
        places = [self.root / folder / "sftp-server" for folder in SFTP_FOLDERS]
        return next((path for path in places if path.is_file()), places[0])

    @property
    def session(self) -> Path | None:
        """sshd-session, which OpenSSH 9.8 and newer starts for each connection."""
        path = self.sftp_server.with_name("sshd-session")
        return path if path.is_file() else None

    def libraries(self) -> list[Path]:
        """Folders of the libraries that came with it; none where all is the system's."""
        if self.root == HOST:
            return []
        found = {path.parent for top in ("usr/lib", "lib") for path in self._shared(top)}
        return sorted(found)

    def _shared(self, top: str) -> Iterator[Path]:
        return (self.root / top).glob("**/lib*.so.*")

    def inside(self, path: Path) -> Path:
        """Where a machine sees it."""
        return path if self.root == HOST else INSIDE / path.relative_to(self.root)

    def environment(self) -> dict[str, str]:
        """For its clients on the host."""
        folders = ":".join(str(folder) for folder in self.libraries())
        return {"LD_LIBRARY_PATH": folders} if folders else {}


def mounts(ssh: OpenSsh | None, directory: Path) -> list[rootfs.Mount]:
    """What a machine in `directory` must see of the host besides /usr."""
    if ssh is None or ssh.root == HOST:
        return []
    (directory / "machinery" / INSIDE.name).mkdir()
    return [rootfs.Mount(str(ssh.root), str(INSIDE))]


def files(ssh: OpenSsh | None, environment: Mapping[str, str]) -> dict[str, str | bytes]:
    """The server's configuration and unit; nothing where the host has no OpenSSH."""
    if ssh is None:
        return {}
    return {CONFIG: config(ssh, environment), "/var/lib/machine/units/ssh.service": unit(ssh)}


def config(ssh: OpenSsh, environment: Mapping[str, str]) -> str:
    """As Ubuntu's on Compute Engine, less what needs root or PAM, whose part SetEnv takes."""
    session = f"SshdSessionPath {ssh.inside(ssh.session)}\n" if ssh.session else ""
    return (
        f"Port 22\nListenAddress 0.0.0.0\nHostKey {HOST_KEY}\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPermitRootLogin no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nX11Forwarding no\nPrintMotd no\nAcceptEnv LANG LC_*\n"
        "ClientAliveInterval 120\nAuthorizedKeysFile /var/lib/machine/logins/%u\n"
        f'SetEnv "PATH={environment["PATH"]}"\n'
        f"Subsystem sftp {ssh.inside(ssh.sftp_server)}\n{session}"
    )


def unit(ssh: OpenSsh) -> str:
    """As Debian's, with our way of becoming the user who logs in."""
    keygen, server = ssh.inside(ssh.client("ssh-keygen")), ssh.inside(ssh.server)
    libraries = ":".join(str(ssh.inside(folder)) for folder in ssh.libraries())
    words = f"{keygen} {HOST_KEY} {server} {CONFIG} {libraries or '-'}"
    return (
        "[Unit]\nDescription=OpenBSD Secure Shell server\n[Service]\nType=exec\n"
        f"ExecStart=/.machine/python -ESsB /.machine/lib/sshd.py {words}\n"
        "KillMode=process\nRestart=on-failure\nRestartPreventExitStatus=255\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
