"""The local cloud as a child process, and the reads that only a local cloud can answer."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from mayfly.demo.crew import Crew
from mayfly.errors import FailedError
from mayfly.project import CHECKOUT

# The engine may have to be built first: about six minutes on two cores.
START_LIMIT_S = 1200
STOP_GRACE_S = 20.0


@dataclass(frozen=True)
class LocalCloud:
    """A running local cloud. exports: the environment of whoever uses it."""

    project: str
    exports: Mapping[str, str]
    api: str

    def read(self, path: str) -> Any:
        """One read of its control surface, e.g. "machines/123"."""
        return self._answer(requests.get(f"{self.api}/_local/{path}", timeout=10))

    def change(self, **settings: Any) -> None:
        """Change what later machines are born with."""
        self._answer(requests.post(f"{self.api}/_local/settings", json=settings, timeout=10))

    @staticmethod
    def _answer(response: requests.Response) -> Any:
        if response.status_code != 200:
            raise FailedError(f"{response.url}: {response.status_code}: {response.text[:200]}")
        return response.json()


def start(crew: Crew, folder: Path, settings: Mapping[str, Any]) -> LocalCloud:
    """Start a local cloud in `folder` and wait until it answers. It ends with the crew."""
    words = [w for key, value in settings.items() for w in ("--setting", f"{key}={value}")]
    command = [sys.executable, "-m", "local", "serve", "--dir", str(folder), *words]
    child = crew.start("local-cloud", command, CHECKOUT, STOP_GRACE_S)
    written = folder / "local.json"

    def ready() -> bool:
        if child.process.poll() is not None:
            raise FailedError(f"{child.tail()}\nThe local cloud ended before it answered.")
        return written.is_file()

    crew.until("the local cloud", ready, START_LIMIT_S, child)
    found = json.loads(written.read_text())
    return LocalCloud(
        project=found["project"],
        exports={name: os.path.expandvars(value) for name, value in found["exports"].items()},
        api=found["urls"]["api"],
    )
