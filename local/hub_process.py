"""The model hub as a process of its own, with a checkpoint made for the occasion."""

from __future__ import annotations

import sys
from pathlib import Path

from local.checkpoint import COMMIT, REPOSITORY
from local.children import Children, free_port, minimal_environment, wait_for_port
from local.exports import ROOT

START_LIMIT_S = 90.0
# Two programs, one child: the second serves what the first has made.
SCRIPT = (
    '"$1" -P -m local.checkpoint "$2" --mb "$3" && '
    'exec "$1" -P -m local.hub --port "$4" --repo "$5=$2" ${6:+--token "$6"}'
)


class HubError(Exception):
    """The hub did not come up; the message holds its last words."""


class HubProcess:
    """Starts making the checkpoint; `wait` returns when the hub answers.

    token: the one that the hub knows; it refuses every other, "" all of them.
    """

    def __init__(
        self, children: Children, directory: Path, megabytes: int, token: str = ""
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [sys.executable, directory, megabytes, self.port, f"{REPOSITORY}@{COMMIT}", token]
        env = minimal_environment() | {"PYTHONPATH": str(ROOT)}
        command = ["/bin/sh", "-c", SCRIPT, "hub", *map(str, words)]
        self._child = children.start("hub", command, env=env)

    def wait(self) -> None:
        if not wait_for_port(self.port, self._child, START_LIMIT_S):
            raise HubError(f"The model hub did not start.\n{self._child.log_tail()}")
