"""Becomes the machine's SSH server: `sshd.py KEYGEN HOST_KEY SSHD CONFIG LIBRARIES`."""

import os
import subprocess
import sys
from pathlib import Path

import kernel


def main() -> None:
    """Host key first, as cloud-init makes it at the first boot."""
    keygen, key, server, config, libraries = sys.argv[1:]
    if libraries != "-":  # not the unit's Environment=: gIB's drop-in is read after that
        os.environ["LD_LIBRARY_PATH"] = libraries
    folder = Path(key).parent
    folder.mkdir(mode=0o755, exist_ok=True)
    if not Path(key).exists():
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", f"root@{os.uname().nodename}"]
        subprocess.run([*command, "-f", key], check=True)
        if kernel.is_mapped(kernel.LOGIN_ID):
            os.chown(key, kernel.LOGIN_ID, kernel.LOGIN_ID)
    kernel.become_login()
    os.execv(server, [server, "-D", "-e", "-f", config])


main()
