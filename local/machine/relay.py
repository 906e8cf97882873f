"""Carries bytes between two sockets, and whole listeners to another address."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_CHUNK = 256 * 1024
_MESSAGE = 64 * 1024
_FDS = 32
_LINE = 200


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep message boundaries and can carry file descriptors."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    """One JSON message, with open files."""
    socket.send_fds(channel, [json.dumps(message).encode()], fds or [])


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message, or None when the other end is gone."""
    try:
        data, fds, _, _ = socket.recv_fds(channel, _MESSAGE, _FDS)
    except ConnectionError:
        return None
    return (json.loads(data), fds) if data else None


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address for the unix socket `path`, however deep it lies (the kernel allows 107 bytes)."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def read_line(connection: socket.socket) -> str:
    """The first line, byte by byte, so that nothing after it is swallowed."""
    line = b""
    while len(line) < _LINE and (byte := connection.recv(1)) not in (b"", b"\n"):
        line += byte
    return line.decode(errors="replace")


def join(left: socket.socket, right: socket.socket) -> None:
    """Carry bytes both ways until both directions are done; closes both."""
    back = threading.Thread(target=_copy, args=(right, left), daemon=True)
    back.start()
    _copy(left, right)
    back.join()
    left.close()
    right.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    buffer = bytearray(_CHUNK)
    try:
        while count := source.recv_into(buffer):
            target.sendall(memoryview(buffer)[:count])
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one side went away: so must the other
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    """A thread that gives each connection to `handle` in a thread of its own.

    Ends when the listener is shut down."""

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def close_listener(listener: socket.socket) -> None:
    """Close, and wake the thread that waits in accept()."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
