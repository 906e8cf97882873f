"""The machine's service manager: so far the startup script and the way out."""

import http.client
import os
from pathlib import Path
from typing import Any

import kernel
from loop import Lines, Loop

METADATA_IP = "169.254.169.254"


class Manager:
    """Runs what has to run, and ends the machine."""

    def __init__(self, loop: Loop, console: int, config: dict[str, Any]) -> None:
        self.loop, self.console, self.config = loop, console, config

    def say(self, text: str) -> None:
        os.write(self.console, (text + "\n").encode())

    def boot(self) -> None:
        body = startup_script()
        if body is None:
            return
        path = Path("/tmp/startup-script")
        path.write_bytes(body)
        path.chmod(0o700)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.execve(str(path), [str(path)], self.config["environment"])
        os.close(writer)
        Lines(self.loop, reader, lambda line: self.say(f"startup-script: {line}"))

    def power_off(self) -> None:
        kernel.reboot(kernel.RB_POWER_OFF)


def startup_script() -> bytes | None:
    """The instance's startup-script attribute, as it is now."""
    connection = http.client.HTTPConnection(METADATA_IP, timeout=10)
    path = "/computeMetadata/v1/instance/attributes/startup-script"
    connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
    response = connection.getresponse()
    body = response.read()
    return body if response.status == 200 else None
