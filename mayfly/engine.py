"""The Pulumi command line, as the commands call it."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import IO, Any

from mayfly.errors import FailedError, WrongInputError
from mayfly.project import Project

EMULATOR = "STORAGE_EMULATOR_HOST"
"""Google's clients, and so a gs:// backend, look there instead of at Google: host:port."""
ANSWER_S = 3.0
END_S = 60.0
"""How long an interrupted `up` may finish the call that is in flight."""


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
    """Runs `pulumi` in a project's folder, with the caller's environment.

    stdout: where its words go, for a command that has JSON of its own to print; else ours.
    """

    def __init__(self, project: Project, stdout: IO[str] | None = None) -> None:
        self._project, self._stdout = project, stdout
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
        # Its own group: the terminal's Ctrl-C would reach it twice, once through us, and the second
        # makes it leave its lock.
        child = subprocess.Popen(
            [self._pulumi, *words],
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            start_new_session=True,
        )
        try:
            status = child.wait()
        except KeyboardInterrupt:
            self._end(child)
            raise
        if status:
            raise FailedError(
                f"`pulumi {' '.join(words)}` ended with status {status}.",
                "Pulumi's own words are above; `mayfly status` shows what costs money now.",
            )

    def up(self, stack: str, tell: Callable[[str], None]) -> tuple[int, str]:
        """`pulumi up`, told line by line as it goes: its status, and all that it said.

        Ctrl-C: it may finish the call in flight for END_S seconds, then it is killed and the lock
        that it leaves is taken away. KeyboardInterrupt goes on once nothing of it runs any more.
        """
        words = ("up", "--yes", "--skip-preview", "--non-interactive", "--color", "never")
        said: list[str] = []
        with subprocess.Popen(
            [self._pulumi, *words, "--stack", stack],
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the terminal's Ctrl-C is for us: we tell it, once
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    said.append(line)
                    tell(line.rstrip())
            except KeyboardInterrupt:
                if not self._end(child):
                    # Our own child held it: while it ran nobody else could.
                    self.run("cancel", "--yes", "--stack", stack)
                raise
        return child.returncode, "".join(said)

    def _end(self, child: "subprocess.Popen[Any]") -> bool:
        """Interrupt a command as Ctrl-C does, once; True where it then ended by itself."""
        child.send_signal(signal.SIGINT)
        try:
            child.communicate(timeout=END_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return False
        return True

    def adopt(self, stack: str, resource: Mapping[str, str]) -> bool:
        """Take what exists into a stack's state as it is; False where pulumi would not.

        resource: "type", "name", "id" as the provider wants it, and "parent", a URN.
        """
        try:
            self.run(
                *("import", resource["type"], resource["name"], resource["id"]),
                *("--parent", f"parent={resource['parent']}", "--stack", stack),
                # What is protected no reaper may end.
                *("--protect=false", "--generate-code=false"),
                *("--yes", "--skip-preview", "--non-interactive", "--suppress-outputs"),
            )
        except FailedError:
            return False
        return True

    def set_config(self, stack: str, values: Mapping[str, str]) -> None:
        """Write plain values into a stack's file. Raises FailedError."""
        pairs = [
            word for key, value in values.items() for word in ("--plaintext", f"{key}={value}")
        ]
        self.run("config", "set-all", *pairs, "--stack", stack)

    def outputs(self, stack: str) -> dict[str, Any]:
        """A stack's outputs, secret ones masked; {} when it has none."""
        found = self.ask("stack", "output", "--json", "--stack", stack)
        return found if isinstance(found, dict) else {}

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
        raise FailedError(
            f"`pulumi {' '.join(words)}` failed: {said}",
            "Nothing was changed.",
            "Try: mayfly init, which makes the state bucket and logs pulumi in to it",
        )

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
        return self._deployment(stack).get("resources") or []

    def cut_off(self, stack: str) -> bool:
        """Whether an update of this stack ended in the middle of a create."""
        return bool(self._deployment(stack).get("pending_operations"))

    def _deployment(self, stack: str) -> dict[str, Any]:
        state = self.ask("stack", "export", "--stack", stack)
        return state.get("deployment") or {}
