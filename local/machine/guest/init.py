"""Process 1 of a machine: network, mounts, startup script, services, the way out.

Arguments: the descriptors of the launcher's control, door and console.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import kernel
import logins
from loop import Loop
from manager import Manager

METADATA_IP = "169.254.169.254"
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_SIOCSIFFLAGS = 0x8914
_SIOCSIFMTU = 0x8922
_MTU = 1460  # GCE's own default
_SUBNET_MASK = "255.255.255.0"
_IFF_UP = 1
_CONNECT_TIMEOUT_S = 3.0
_BACKLOG = 128
_SSH_PORT = 22
_UNPRIVILEGED_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def main() -> None:
    """Boot, then serve until the kernel ends us."""
    control, door = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:3])
    console = int(sys.argv[3])
    for fd in (control.fileno(), door.fileno(), console):
        os.set_inheritable(fd, False)
    config = json.loads(Path("/.machine/config.json").read_text())
    socket.sethostname(config["hostname"])
    mount_own()
    bring_up_network(config["internal_ip"])
    announce(control, config["ports"])
    loop = Loop()
    manager = Manager(loop, console, config)
    loop.watch(control.fileno(), lambda: obey(control, manager))
    loop.watch(door.fileno(), lambda: open_door(door, config["internal_ip"]))
    manager.boot()
    loop.run()


def mount_own() -> None:
    """What a boot begins with empty: proc, /run, /dev/shm, terminals."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("proc", "/proc", "proc", flags | kernel.MS_NOEXEC)
    kernel.mount("tmpfs", "/run", "tmpfs", flags, "mode=755,size=20%")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", flags, "mode=1777,size=50%")
    kernel.mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    for directory in ("lock", "systemd/system", "systemd/private"):
        Path("/run", directory).mkdir(parents=True, exist_ok=True)


def bring_up_network(internal_ip: str) -> None:
    """Loopback, and a card that leads to the machine's subnet and nowhere else.

    Where the host gave no card, loopback carries the internal address too.
    """
    has_nic = kernel.NIC in (name for _, name in socket.if_nameindex())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        configure(handle, "lo:0", METADATA_IP, "255.255.255.255")
        bring_up(handle, "lo")
        if has_nic:
            fcntl.ioctl(handle, _SIOCSIFMTU, struct.pack("16si20x", kernel.NIC.encode(), _MTU))
            configure(handle, kernel.NIC, internal_ip, _SUBNET_MASK)
            bring_up(handle, kernel.NIC)
        else:
            configure(handle, "lo:1", internal_ip, "255.255.255.255")
    _UNPRIVILEGED_PORTS.write_text(str(_SSH_PORT))  # sshd is no root here


def configure(handle: socket.socket, name: str, address: str, mask: str) -> None:
    """An address for a card; its mask makes the route."""
    for call, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
        body = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
        fcntl.ioctl(handle, call, struct.pack("16s16s8x", name.encode(), body))


def bring_up(handle: socket.socket, name: str) -> None:
    fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP))


def announce(control: socket.socket, ports: list[int]) -> None:
    """Open the sockets that are answered from outside, and hand them over."""
    listeners = [listen(METADATA_IP, 80), *(listen("127.0.0.1", port) for port in ports)]
    message = {"listen": ["metadata", *(str(port) for port in ports)]}
    socket.send_fds(control, [json.dumps(message).encode()], [s.fileno() for s in listeners])
    for listener in listeners:
        listener.close()


def listen(address: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(_BACKLOG)
    return listener


def obey(control: socket.socket, manager: Manager) -> None:
    """An order from the launcher; if it is gone, so are we."""
    data = control.recv(4096)
    if not data:
        os._exit(1)  # ends every process of the machine
    if json.loads(data).get("stop"):
        manager.power_off()


def open_door(door: socket.socket, internal_ip: str) -> None:
    """Connect to a port in here and hand the connection out."""
    data = door.recv(4096)
    if not data:
        return os._exit(1)
    wish: dict[str, Any] = json.loads(data)
    if wish["port"] == _SSH_PORT:
        logins.refresh()
    target = socket.socket()
    target.settimeout(_CONNECT_TIMEOUT_S)
    with contextlib.closing(target):
        try:
            target.connect((internal_ip if wish["nic"] else "127.0.0.1", wish["port"]))
        except OSError as error:
            door.send(json.dumps({"error": error.strerror or str(error)}).encode())
            return None
        target.settimeout(None)
        socket.send_fds(door, [b"{}"], [target.fileno()])
    return None


if __name__ == "__main__":
    main()
