"""A tunnel to a session's endpoint: gcloud's, kept up for as long as it is wanted."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from types import TracebackType

import requests

from mayfly.errors import FailedError, WrongInputError
from mayfly.remote import check_gcloud
from mayfly.vms import Vm

ENDPOINT_PORT = 8000
PORTS_TRIED = 100
STOP_GRACE_S = 5.0
POLL_S = 0.2


def wished_port(text: str) -> int | None:
    """A port that the user asked for; None for "". WrongInputError if it cannot be had."""
    if not text:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise WrongInputError(f"--port {text}: a port is 1 to 65535.", "Nothing was attempted.")
    if not is_free(int(text)):
        raise WrongInputError(
            f"--port {text}: it is in use on this machine.",
            "Nothing was attempted.",
            "Try: leave out --port; the next free one is taken then",
        )
    return int(text)


def free_port(default: int) -> int:
    """The first free port from `default` upwards."""
    for port in range(default, min(default + PORTS_TRIED, 65536)):
        if is_free(port):
            return port
    raise FailedError(
        f"No free port from {default} to {default + PORTS_TRIED - 1}.",
        "The session is unchanged.",
        "Try: mayfly connect --port PORT",
    )


def is_free(port: int) -> bool:
    """Whether a tunnel could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As ssh does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def command(vm: Vm, project: str, port: int) -> list[str]:
    """gcloud's words for it. ssh must give up when it cannot listen, and notice a dead line."""
    return [
        *("gcloud", "compute", "ssh", vm.name, "--zone", vm.zone, "--project", project),
        *("--tunnel-through-iap", "--quiet", "--", "-N"),
        # Without an address ssh is content with ::1, and 127.0.0.1 is another program's.
        *("-L", f"127.0.0.1:{port}:localhost:{ENDPOINT_PORT}"),
        *("-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"),
    ]


class Tunnel:
    """One gcloud process; used as a context manager, it and its ssh are gone afterwards."""

    def __init__(self, vm: Vm, project: str, port: int) -> None:
        self.port, self._project = port, project
        self._command = command(vm, project, port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Tunnel":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def lead_to(self, vm: Vm) -> None:
        """From the next start on it leads there, from the same port."""
        self._command = command(vm, self._project, self.port)

    def start(self) -> None:
        """Start gcloud. Raises WrongInputError if there is none."""
        check_gcloud()
        # A group of its own: gcloud leaves its ssh behind when only gcloud is ended.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
        )

    def exit_status(self) -> int | None:
        """gcloud's status once it has ended; None while it runs."""
        return self._process.poll() if self._process else None

    def wait_end(self, limit_s: float) -> None:
        """Return when gcloud has ended, or after limit_s seconds."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(limit_s)

    def healthy(self) -> bool:
        """Whether the endpoint answers through the tunnel now."""
        try:
            return requests.get(f"{self.base_url}/health", timeout=3).status_code == 200
        except requests.RequestException:
            return False

    def wait_healthy(self, limit_s: float) -> bool:
        """True once the endpoint answers; False when gcloud ended or the time is over."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self.exit_status() is None:
            if self.healthy():
                return True
            time.sleep(POLL_S)
        return False

    def stop(self) -> None:
        """End gcloud and its ssh; returns when they are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        process.wait(STOP_GRACE_S)
