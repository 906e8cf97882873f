"""Where a secret could show once a session has been: each place looked at, by name."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from local.cloud import LocalCloud
from mayfly import names
from mayfly.cloud import Cloud

ENGINE = "/opt/mayfly-engine/env/bin/vllm"
KEY_FILE = "run/mayfly-key/env"
# What of a machine's disk is the image's own, or the weights'.
IMAGES = ("usr", "bin", "sbin", "lib", "lib64", "proc", "sys", "dev", "boot", "opt/mayfly-engine")
FILE_LIMIT_BYTES = 4 << 20
# Where at least something lies once a session stands and a seed was reaped.
PLACES = frozenset(
    (
        "the terminal",
        "gs://.pulumi",
        "gs://ledger",
        "gs://observations",
        "metadata",
        "guest attributes",
        "serial console",
        "commands",
        "disk: var/log",
        "disk: var/lib",
        "function log",
        "log",
        "argv",
        "environment",
    )
)


@dataclass(frozen=True)
class Found:
    """One secret in one place."""

    secret: str
    place: str


class Sweep:
    """Looks everywhere that others than root on the VM can read, and everywhere that stays."""

    def __init__(self, local: LocalCloud, cloud: Cloud) -> None:
        self._local, self._cloud = local, cloud
        self._api = local.describe()["urls"]["api"]

    def find(self, secrets: Mapping[str, str], said: str = "") -> set[Found]:
        """secrets: value by name; said: what commands have printed."""
        forms = {
            form: name
            for name, value in secrets.items()
            for form in (value.encode(), base64.b64encode(value.encode()).rstrip(b"="))
        }
        return {
            Found(name, place)
            for place, text in self.places(said)
            for form, name in forms.items()
            if form in text
        }

    def places(self, said: str = "") -> Iterator[tuple[str, bytes]]:
        """(place, all that is there), piece by piece."""
        yield "the terminal", said.encode()
        yield from self._bucket()
        yield from self._compute()
        yield from self._machines()
        yield from self._logs()
        yield from processes()

    def _bucket(self) -> Iterator[tuple[str, bytes]]:
        """State, history, backups, observations, the ledger; the engine's archives are public."""
        bucket = names.bucket(self._cloud.project, "state")
        for item in list(self._cloud.storage.list(bucket, "")):
            name = str(item["name"])
            if name.startswith(names.ENGINE_PREFIX):
                continue
            blob = self._cloud.storage.get(bucket, name)
            yield f"gs://{name.split('/')[0]}", blob.data if blob else b""

    def _compute(self) -> Iterator[tuple[str, bytes]]:
        for vm in self._cloud.compute.instances(names.OUR_VMS):
            yield "metadata", json.dumps(vm).encode()
        project = self._cloud.ask("GET", "compute", f"projects/{self._cloud.project}")
        yield "metadata", json.dumps(project).encode()

    def _machines(self) -> Iterator[tuple[str, bytes]]:
        """Whatever runs or ran: its console, claims, commands, and files that lie on its disk."""
        for listed in self._read("machines"):
            machine = self._read(f"machines/{listed['id']}")
            yield "guest attributes", json.dumps(machine["guest_attributes"]).encode()
            yield "serial console", str(machine["serial"]).encode()
            yield "commands", json.dumps(machine["commands"]).encode()
            disk = self._local.directory / "machines" / str(listed["id"]) / "disk"
            yield from ((f"disk: {name}", text) for name, text in files(disk))

    def _logs(self) -> Iterator[tuple[str, bytes]]:
        for log in (self._local.directory / "logs").rglob("*.log"):
            if log.is_file() and not log.name.startswith("hub"):
                yield "function log" if "function" in log.name else "log", log.read_bytes()

    def _read(self, path: str) -> Any:
        answer = requests.get(f"{self._api}/_local/{path}", timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()


def files(disk: Path) -> Iterator[tuple[str, bytes]]:
    """(where, content) of a machine's small files; the image's own and links are left out."""
    for folder, folders, held in os.walk(disk):
        inside = Path(folder).relative_to(disk)
        folders[:] = [f for f in folders if str(inside / f) not in IMAGES]
        for name in held:
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size <= FILE_LIMIT_BYTES:
                yield f"{inside}".split("/mayfly")[0], path.read_bytes()


def processes() -> Iterator[tuple[str, bytes]]:
    """Command lines and environments of all processes but the hub, whose the token is.

    vLLM has its key from systemd in VLLM_API_KEY, and only its own uid and root can read that.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended, or it is not ours
        if b"local.hub" in words:
            continue
        yield "argv", words
        serves = ENGINE.encode() in words.replace(b"\0", b" ")
        kept = [
            v for v in environment.split(b"\0") if not (serves and v.startswith(b"VLLM_API_KEY="))
        ]
        yield "environment", b"\0".join(kept)


def serving(key: str) -> list[Path]:
    """The processes that have the key by right: vLLM's own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"VLLM_API_KEY={key}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder)
        except OSError:
            continue
    return found
