"""A configured provider before a server that plays back answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from local.provider.google import Google
from local.provider.handlers.batch import Batch
from local.provider.log import Log
from local.provider.messages import Request, Urn
from tests.conftest import SHARED
from tests.provider.playback import Playback, playing
from tests.waiting import wait_until

# Extra checks, against recordings that are not part of the project.
collect_ignore = [] if (SHARED / "golden/gcp-http").is_dir() else ["test_shared_golden.py"]
if not (SHARED / "facts/gcp-resources.yaml").is_file():
    collect_ignore.append("test_shared_facts.py")


class Waits:
    """Stands in for sleeping, and keeps how long it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Together(Waits):
    """Where calls are gathered for 3 s, lets the first go on as soon as all have come.

    counts: how many those are, each time that they are gathered.
    """

    def __init__(self, counts: Sequence[int], *batches: Batch[Any]) -> None:
        super().__init__()
        self._counts, self._batches = list(counts), batches

    def __call__(self, seconds: float) -> None:
        super().__call__(seconds)
        if seconds == 3:
            count = self._counts.pop(0)
            wait_until(lambda: count in self._gathered())

    def _gathered(self) -> list[int]:
        return [len(group.items) for batch in self._batches for group in [*batch._open.values()]]


class LoggedLines(Log):
    """The engine's log, kept."""

    def __init__(self) -> None:
        super().__init__(None)
        self.errors: list[str] = []
        self.infos: list[str] = []

    def error(self, urn: Urn, message: str) -> None:
        self.errors.append(message)

    def info(self, urn: Urn, message: str) -> None:
        self.infos.append(message)


def configured(playback: Playback, **config: object) -> Google:
    """The provider, pointed at the playback; `config` is its own configuration."""
    os.environ.update(playback.environment() | {"STANDIN_WAIT_SCALE": "1"})
    provider = Google(LoggedLines(), sleep=Waits())
    provider.configure(dict(config))
    return provider


def asking(token: str, name: str = "thing", **rest: object) -> Request:
    """A request about a resource of this type."""
    return Request(urn=Urn(f"urn:pulumi:dev::mayfly::{token}::{name}"), **rest)  # type: ignore[arg-type]


@pytest.fixture
def playback() -> Iterator[Playback]:
    with playing() as server:
        yield server


@pytest.fixture
def provider(playback: Playback) -> Google:
    return configured(playback)
