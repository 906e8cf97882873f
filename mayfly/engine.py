"""The Pulumi command line, as the commands call it."""

import json
import os
import shutil
import socket
import subprocess
from typing import Any

from mayfly.errors import FailedError, WrongInputError
from mayfly.project import Project

EMULATOR = "STORAGE_EMULATOR_HOST"
"""Google's clients, and so a gs:// backend, look there instead of at Google: host:port."""
ANSWER_S = 3.0


def check_storage(address: str) -> None:
    """WrongInputError if an emulator is named and gone: Pulumi would ask it for minutes."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except OSError as error:
        raise WrongInputError(
            f"{EMULATOR} is {address}, where nothing answers.",
            "Nothing was attempted; this shell speaks to a cloud that is gone.",
            f"Try: a new shell, or: unset {EMULATOR}",
        ) from error


class Engine:
    """Runs `pulumi` in a project's folder, with the caller's environment."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._root = project.root
        found = shutil.which("pulumi")
        if found is None:
            raise WrongInputError(
                "There is no pulumi on PATH.",
                "Nothing was attempted.",
                "Try: make engine   (or https://www.pulumi.com/docs/install)",
            )
        self._pulumi = found
        check_storage(os.environ.get(EMULATOR, ""))

    def run(self, *words: str) -> None:
        """Run one command, its output passed through. Raises FailedError naming the command."""
        command = [self._pulumi, *words]
        status = subprocess.run(
            command, cwd=self._root, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if status:
            raise FailedError(
                f"`pulumi {' '.join(words)}` ended with status {status}.",
                "Pulumi's own words are above; `mayfly status` shows what costs money now.",
            )

    def ask(self, *words: str) -> Any:
        """The JSON that one command prints. Raises FailedError with what it said instead."""
        result = subprocess.run(
            [self._pulumi, *words],
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            if result.returncode == 0:
                return json.loads(result.stdout)
        except ValueError:
            pass
        said = " ".join((result.stderr or result.stdout).split())[-500:]
        raise FailedError(f"`pulumi {' '.join(words)}` failed: {said}", "Nothing was changed.")

    def create(self, stack: str) -> None:
        """Make an empty stack whose secrets the project's own key seals, if it has one."""
        provider = self._project.secrets_provider()
        sealed = ("--secrets-provider", provider) if provider else ()
        self.run("stack", "init", stack, *sealed)

    def backend(self) -> str:
        """Where pulumi keeps this user's states, e.g. "gs://bucket"; "" without a login."""
        try:
            found = self.ask("whoami", "--json", "--verbose", "--non-interactive")
        except FailedError:
            return ""
        return str(found.get("url", ""))

    def stacks(self) -> list[str]:
        """The names of this project's stacks in the backend."""
        return [str(s["name"]).rsplit("/", 1)[-1] for s in self.ask("stack", "ls", "--json")]

    def resources(self, stack: str) -> list[dict[str, Any]]:
        """The resources in a stack's state."""
        state = self.ask("stack", "export", "--stack", stack)
        return (state.get("deployment") or {}).get("resources") or []
