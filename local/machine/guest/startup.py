"""The startup-script of the instance's metadata, run as Google's guest agent runs it."""

import http.client
import os
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import spawn
from journal import Journal
from loop import Lines, Loop
from units import Command, Unit

METADATA_IP = "169.254.169.254"
UNIT = "google-startup-scripts.service"
RUNNER = "google_metadata_script_runner"
_TIMEOUT_S = 10


class StartupScript:
    """One run; its output goes to the journal and the serial console."""

    def __init__(
        self, loop: Loop, journal: Journal, environment: Callable[[], dict[str, str]]
    ) -> None:
        self._loop, self._journal = loop, journal
        self._invocation = secrets.token_hex(16)
        self._environment = environment
        self._pid = 0

    def run(self) -> None:
        """Fetch and start it; nothing happens where the instance has none."""
        self._say("Starting startup scripts (version 20260801.00).")
        body = fetch()
        if body is None:
            return self._say("No startup scripts to run.")
        self._say("Found startup-script in metadata.")
        folder = Path("/tmp", f"metadata-scripts{secrets.randbelow(10**9)}")
        folder.mkdir(mode=0o700)
        path = folder / "startup-script"
        path.write_bytes(body)
        path.chmod(0o755)
        reader, writer = os.pipe()
        around = spawn.Surroundings({**self._environment(), "INVOCATION_ID": self._invocation})
        command = Command([str(path)], may_fail=False, privileged=False)
        self._pid = spawn.spawn(Unit(UNIT, path), command, around, writer).pid
        os.close(writer)
        lines = Lines(self._loop, reader, lambda line: self._say(f"startup-script: {line}"))
        self._loop.child(self._pid, lambda status: self._ended(status, lines, folder))
        return None

    def kill(self) -> None:
        """The machine goes down while it runs."""
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)

    def _ended(self, status: int, lines: Lines, folder: Path) -> None:
        lines.drain()
        self._pid = 0
        shutil.rmtree(folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        if code > 0:
            self._say(f'Script "startup-script" failed with error: exit status {code}')
        elif code < 0:
            name = signal.Signals(-code).name
            self._say(f'Script "startup-script" failed with error: signal: {name}')
        else:
            self._say("startup-script exit status 0")
        self._say("Finished running startup scripts.")

    def _say(self, text: str) -> None:
        self._journal.write(UNIT, (RUNNER, self._pid or 1), text, console=True)


def fetch() -> bytes | None:
    """The startup-script attribute as it is now."""
    connection = http.client.HTTPConnection(METADATA_IP, timeout=_TIMEOUT_S)
    path = "/computeMetadata/v1/instance/attributes/startup-script"
    try:
        connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    return body if response.status == 200 else None
