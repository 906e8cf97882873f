"""A secret put where it must never be, one place at a time, and taken away again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from local.cloud import LocalCloud
from local.rest.compute.life import Life
from mayfly import names
from mayfly.cloud import Cloud

Plant = Callable[[], AbstractContextManager[str]]
"""Yields what a command would have printed: "" but for the terminal."""


def plants(local: LocalCloud, cloud: Cloud, vm_id: str, secret: str) -> Mapping[str, Plant]:
    """By the name that `leaks.Sweep` gives the place. vm_id: of a machine that runs."""
    machine = local.directory / "machines" / vm_id
    logs = local.directory / "logs"
    (function,) = (log for log in logs.rglob("*.log") if "function" in log.name)
    return {
        "the terminal": partial(_terminal, secret),
        **{
            f"gs://{folder}": partial(_object, cloud, f"{folder}/planted", secret)
            for folder in (".pulumi", "ledger", "observations")
        },
        "metadata": partial(_metadata, cloud, secret),
        "guest attributes": partial(_attribute, local, vm_id, secret),
        "serial console": partial(_appended, machine / "serial.log", secret),
        "commands": partial(
            _appended, machine / "state/commands.jsonl", f'{{"t": 1, "argv": ["{secret}"]}}'
        ),
        "disk: var/log": partial(_file, machine / "disk/var/log/mayfly/planted.log", secret),
        "disk: var/lib": partial(_file, machine / "disk/var/lib/mayfly/planted", secret),
        "function log": partial(_appended, function, secret),
        "log": partial(_file, logs / "planted.log", secret),
        "argv": partial(_process, [secret], {}),
        "environment": partial(_process, [], {"PLANTED": secret}),
    }


@contextmanager
def _terminal(secret: str) -> Iterator[str]:
    yield secret


@contextmanager
def _object(cloud: Cloud, name: str, secret: str) -> Iterator[str]:
    bucket = names.bucket(cloud.project, "state")
    cloud.storage.put(bucket, name, secret.encode())
    yield ""
    cloud.storage.delete(bucket, name)


@contextmanager
def _metadata(cloud: Cloud, secret: str) -> Iterator[str]:
    path = f"projects/{cloud.project}/setCommonInstanceMetadata"
    cloud.ask("POST", "compute", path, {"items": [{"key": "planted", "value": secret}]})
    yield ""
    held = cloud.ask("GET", "compute", f"projects/{cloud.project}")["commonInstanceMetadata"]
    cloud.ask("POST", "compute", path, {"items": [], "fingerprint": held["fingerprint"]})


@contextmanager
def _attribute(local: LocalCloud, vm_id: str, secret: str) -> Iterator[str]:
    claims = local.world.of(Life).attributes[vm_id]
    claims["mayfly/planted"] = secret
    yield ""
    del claims["mayfly/planted"]


@contextmanager
def _appended(path: Path, text: str) -> Iterator[str]:
    """Only a machine's or a function's own words come between: they are cut off with it."""
    size = path.stat().st_size
    with path.open("a") as log:
        log.write(f"\n{text}\n")
    yield ""
    with path.open("r+b") as log:
        log.truncate(size)


@contextmanager
def _file(path: Path, secret: str) -> Iterator[str]:
    path.write_text(secret)
    yield ""
    path.unlink()


@contextmanager
def _process(words: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Answers once it runs: before that its command line is still ours."""
    program = "print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield ""
        process.communicate(b"\n", timeout=30)
