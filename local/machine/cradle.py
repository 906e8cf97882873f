"""Becomes a machine: `python -m local.machine.cradle SPEC WIRE FD...` runs init in new namespaces.

Two steps, the same for root and for anybody else. First, with root's power (real, or in a user
namespace of our own), the machine's file tree is put together and becomes the root. Then a second
user namespace is entered, as nobody where we were real root: there every mount of the first step
is locked, so root in the machine can neither lift nor rewrite it. Anybody else can lend a machine
one identity, their own; real root lends it a few, which a unit's DynamicUser= then really takes.

The exit status says how the machine ended (ENDED_*), as its launcher wants to know.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.machine import kernel

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def main() -> int:
    """Boot once; returns how it ended."""
    kernel.die_with_parent()
    spec = json.loads(Path(sys.argv[1]).read_text())
    with socket.socket(fileno=int(sys.argv[2])) as wire, contextlib.ExitStack() as opened:
        enter_namespaces(spec, plugger(wire, opened))
    kernel.die_with_parent()  # a change of identity forgets it
    child = os.fork()  # the first process of the new pid namespace
    if child == 0:
        run_init(spec)
    _, status = os.waitpid(child, 0)
    return ending(status)


def plugger(wire: socket.socket, opened: contextlib.ExitStack) -> Callable[[], None]:
    """What, called in the machine's network, gives it a card and hands its other end over `wire`.

    On a host without TUN a machine has none: it hears from no other.
    """
    try:
        device = os.open(kernel.TUN_DEVICE, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return lambda: None
    opened.callback(os.close, device)

    def plug() -> None:
        with contextlib.suppress(OSError):
            nic = kernel.make_nic(device)
            socket.send_fds(wire, [b"nic"], [nic])
            os.close(nic)

    return plug


def enter_namespaces(spec: dict[str, Any], plug: Callable[[], None]) -> None:
    """All of the machine's namespaces; its first process will be our child."""
    if kernel.is_real_root():
        kernel.unshare(kernel.CLONE_NEWNS)
        assemble(spec)
        give_identities = kernel.identity_giver(plug)
        kernel.become(kernel.UNPRIVILEGED_ID, kernel.UNPRIVILEGED_ID)
        kernel.unshare(kernel.MACHINE_NAMESPACES)
        give_identities()
    else:
        kernel.unshare_as_root(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        assemble(spec)
        kernel.unshare_as_root(kernel.MACHINE_NAMESPACES)
        plug()


def assemble(spec: dict[str, Any]) -> None:
    """Put the machine's tree together and make it the root. Needs power over our mounts."""
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    root = spec["root"]
    kernel.bind(root, root, read_only=False)
    for item in spec["mounts"]:
        kernel.bind(item["source"], root + item["target"], read_only=item["read_only"])
    make_devices(root + "/dev")
    # Kept only because a fresh proc may be mounted where one can be seen already.
    kernel.bind("/proc", root + "/proc", read_only=False)
    kernel.pivot_root(root)


def make_devices(directory: str) -> None:
    """A /dev of harmless devices only: nobody can make device nodes, so the host's are shown."""
    uid = Path(directory).stat().st_uid
    options = f"mode=755,size=1m,uid={uid},gid={uid}"
    kernel.mount("tmpfs", directory, "tmpfs", kernel.MS_NOSUID, options)
    for name in DEVICES:
        Path(directory, name).touch()
        kernel.bind(f"/dev/{name}", f"{directory}/{name}", read_only=False)
    for name, target in DEVICE_LINKS.items():
        Path(directory, name).symlink_to(target)
    for name in ("shm", "pts"):
        Path(directory, name).mkdir()
        os.chown(f"{directory}/{name}", uid, uid)


def run_init(spec: dict[str, Any]) -> None:
    """Become the machine's process 1."""
    kernel.die_with_parent()
    init = [*spec["init"], *sys.argv[3:]]
    os.execve(init[0], init, {})


def ending(status: int) -> int:
    """What the wait status of a machine's init means: the kernel says reboot(2) by a signal."""
    if os.WIFSIGNALED(status):
        how = os.WTERMSIG(status)
        return {signal.SIGINT: kernel.ENDED_POWER_OFF, signal.SIGHUP: kernel.ENDED_REBOOT}.get(
            how, kernel.ENDED_CRASH
        )
    return kernel.ENDED_CRASH


if __name__ == "__main__":
    try:
        status = main()
    except OSError as error:
        print(f"the machine could not be made: {error}", file=sys.stderr)
        status = kernel.ENDED_CRASH
    sys.exit(status)
