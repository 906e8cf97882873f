"""What `sudo` asks: a command with root's powers, on the caller's own terminal or pipes.

The caller hands over its standard streams; the command is process 1's child, not the caller's.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import logins
from loop import Loop

SOCKET = "/run/machine/sudo"
_REQUEST_LIMIT = 256 * 1024
_OF_INIT = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Sudo:
    """Takes requests from anybody; grants those of OS Login's admins."""

    def __init__(self, loop: Loop, environment: Callable[[], dict[str, str]]) -> None:
        self._loop, self._environment = loop, environment
        Path(SOCKET).parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(SOCKET)
        Path(SOCKET).chmod(0o666)
        self._listener.listen(16)
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        streams: list[int] = []
        try:
            data, streams, _, _ = socket.recv_fds(connection, _REQUEST_LIMIT, 3)
            wish = json.loads(data)
            if len(streams) != 3 or wish["user"] not in json.loads(logins.ADMINS.read_text()):
                connection.sendall(json.dumps({"refused": True}).encode())
                return connection.close()
            self._run(connection, wish, streams)
        except (OSError, ValueError, KeyError):
            connection.close()
        finally:
            for stream in streams:
                os.close(stream)
        return None

    def _run(self, connection: socket.socket, wish: dict[str, str], streams: list[int]) -> None:
        environment = {**self._environment(), "USER": "root", "LOGNAME": "root", "HOME": "/root"}
        environment |= {"SUDO_USER": wish["user"], "TERM": wish.get("term", "dumb")}
        pid = os.fork()
        if pid == 0:
            try:
                become_command(wish, streams, environment)
            finally:
                os._exit(126)
        watching = True

        def gone() -> None:
            """The caller is dead: so is what it asked for."""
            nonlocal watching
            watching = False
            self._loop.forget(connection.fileno())
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)

        def ended(status: int) -> None:
            if watching:
                self._loop.forget(connection.fileno())
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"exit": code if code >= 0 else 128 - code}).encode())
            connection.close()

        self._loop.watch(connection.fileno(), gone)
        self._loop.child(pid, ended)


def become_command(wish: dict[str, str], streams: list[int], environment: dict[str, str]) -> None:
    """In the child: the caller's streams and folder, root's environment. Returns only to fail."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _OF_INIT:
        signal.signal(number, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(wish["folder"])
    try:
        os.execvpe(wish["argv"][0], list(wish["argv"]), environment)
    except OSError:
        os.write(2, f"sudo: {wish['argv'][0]}: command not found\n".encode())
