"""`mayfly ssh` and `mayfly exec`: a shell on a session's VM, or one command and its exit status."""

import sys
from collections.abc import Sequence

from mayfly import remote
from mayfly.errors import WrongInputError


def shell(session: str, more: Sequence[str]) -> int:
    """A login until it ends; `more` goes to ssh. The exit status of its last command."""
    place = remote.find_running(session)
    words = place.gcloud("ssh", place.vm.name)
    status = remote.run([*words, "--", *more] if more else words)
    if status == remote.LINE_BROKE:
        raise remote.broken(place)
    return status


def execute(session: str, command: Sequence[str]) -> int:
    """Run one command, argument by argument as given, on our input; its exit status is ours."""
    if not command:
        raise WrongInputError(
            "There is no command to run.",
            "Nothing was attempted.",
            f"Try: mayfly exec {session or 'SESSION'} -- nvidia-smi",
        )
    place = remote.find_running(session)
    sys.stdout.flush()
    status = remote.run(place.command(remote.shell_line(command)))
    if status == remote.LINE_BROKE:
        raise remote.broken(place)
    return status
