"""A Google of its own for each test, and a reaper that looks at it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mayfly.cloud import Cloud, connect
from mayfly.cloud.http import Retry
from reaper.settings import Settings
from reaper.tick import Report, tick
from tests.reaper.google import PROJECT, Google, Serving
from tests.reaper.world import BUCKET

SETTINGS = Settings(project=PROJECT, state_bucket=BUCKET, foundation_stack="foundation")


@pytest.fixture
def google() -> Iterator[Google]:
    """Fails the test when something was asked that Google would not have understood."""
    made = Google()
    with Serving(made) as serving:
        os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] = serving.url + "compute/beta/"
        os.environ["GOOGLE_STORAGE_CUSTOM_ENDPOINT"] = serving.url + "storage/v1/"
        yield made
    assert made.surprises == []


@pytest.fixture
def cloud(google: Google) -> Cloud:
    return connect(PROJECT, Retry(tries=2, first_delay_s=0.001))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Where the stand-in CLI writes what it was told, one file a process."""
    folder = tmp_path / "record"
    folder.mkdir()
    os.environ["FAKE_PULUMI_RECORD"] = str(folder / "run")
    return folder


@pytest.fixture
def run(cloud: Cloud, tmp_path: Path, record: Path) -> Callable[..., Report]:
    """Do one run; keywords change its settings."""

    def run_once(**changes: object) -> Report:
        settings = Settings(**{**vars(SETTINGS), **changes})  # type: ignore[arg-type]
        return tick(cloud, settings, tmp_path / "engine")

    return run_once
