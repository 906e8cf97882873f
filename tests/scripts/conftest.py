"""A machine for one stage: a root folder of its own, a PATH of stubs that record, a fake Google."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local import checkpoint
from tests.fake_google import FakeGoogle
from tests.running import running

if TYPE_CHECKING:
    from tests.scripts.vllm_node import VllmNode

STARTUP = Path(__file__).resolve().parents[2] / "startup"
SETTINGS = {
    "MAYFLY_LAYER": "session",
    "MAYFLY_SESSION": "dev",
    "MAYFLY_PROFILE": "kimi-k2.5",
    "MAYFLY_MACHINE": "a3-highgpu-8g",
    "MAYFLY_GPU_COUNT": "8",
    "MAYFLY_WEIGHTS_URI": "gs://w/models/kimi/abc",
    "MAYFLY_MODEL": "moonshotai/Kimi-K2.5",
    "MAYFLY_REVISION": "4d01dfe",
    "MAYFLY_CACHE_BUCKET": "c",
    "MAYFLY_ENGINE": "0.24.0",
    "MAYFLY_ENGINE_URI": "gs://w/engines/e1",
    "MAYFLY_ENGINE_LOCK": "vllm-0.24.0.lock",
    "MAYFLY_DRIVER_BRANCH": "580",
    "MAYFLY_DRIVER_URI": "gs://w/drivers/580",
    "MAYFLY_API_KEY_SECRET": "projects/p/secrets/key",
    "MAYFLY_SERVED_MODEL": "kimi-k2.5",
    "MAYFLY_MODE": "fast",
    "MAYFLY_SERVE_FLAGS": "[]",
    "MAYFLY_SAFE_FLAGS": "[]",
    "MAYFLY_LOAD_FORMAT": "safetensors",
    "MAYFLY_START_S": "1800",
    "MAYFLY_PORT": "9",
}
RECORDER = """#!/bin/bash
printf '%s\\0' {name} "$@" >>{log}
printf '\\n' >>{log}
{body}
exit {exit_status}
"""


class Machine:
    """root: what the stage takes for /. google: what it talks to."""

    def __init__(self, folder: Path, google: FakeGoogle) -> None:
        self.root, self.google = folder / "root", google
        self._bin, self._log = folder / "bin", folder / "calls"
        self._bin.mkdir()
        for name in ("proc", "etc/ld.so.conf.d", "etc/profile.d", "usr/local"):
            (self.root / name).mkdir(parents=True)
        self.write("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable: 8000000 kB\n")
        self.corrupt = folder / "corrupt"
        self.stub("sleep")
        pulls = Path(__file__).with_name("gsutil_stub.py")
        self.stub("gsutil", body=f'exec {sys.executable} {pulls} "$@"')
        self.stub("gcloud", body=f'exec {sys.executable} {pulls} gcloud "$@"')

    def stub(self, name: str, *, body: str = "", exit_status: int = 0) -> None:
        """A command that records its arguments, runs body and exits."""
        text = RECORDER.format(name=name, log=self._log, body=body, exit_status=exit_status)
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def calls(self, *names: str) -> list[str]:
        """What was called, each as one line, in order; of these commands, or of all."""
        text = self._log.read_text() if self._log.exists() else ""
        found = [line.rstrip("\0").split("\0") for line in text.split("\n")[:-1]]
        return [" ".join(call) for call in found if not names or call[0] in names]

    def write(self, path: str, text: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def environment(self, **more: str) -> dict[str, str]:
        python = Path(sys.executable).parent
        return {
            "PATH": f"{self._bin}:{python}:/usr/bin:/bin:/usr/sbin:/sbin",
            "MAYFLY_ROOT": str(self.root),
            "FAKE_BUCKETS": str(self.google.buckets),
            "FAKE_CORRUPT": str(self.corrupt),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.google.environment(),
            **SETTINGS,
            **more,
        }

    def run(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A script of startup/ as the runner starts it."""
        return subprocess.run(
            ["bash", str(STARTUP / script)],
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, script: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """The same, running inside a block; stdout has stderr too."""
        return running(
            ["bash", str(STARTUP / script)],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def why(self, script: str) -> str:
        """What a failed stage tells the user."""
        path = self.root / "run/mayfly/why" / script.removesuffix(".sh")
        return path.read_text() if path.exists() else ""


@pytest.fixture
def google(tmp_path: Path) -> Iterator[FakeGoogle]:
    (tmp_path / "buckets").mkdir()
    fake = FakeGoogle(tmp_path / "buckets")
    yield fake
    fake.close()


@pytest.fixture
def machine(tmp_path: Path, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, google)
    for name, value in {**google.environment(), **SETTINGS, "MAYFLY_ROOT": str(made.root)}.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def run_stage(machine: Machine) -> Callable[..., subprocess.CompletedProcess[str]]:
    return machine.run


@pytest.fixture
def stub(machine: Machine) -> Callable[..., None]:
    return machine.stub


@pytest.fixture
def phases(google: FakeGoogle) -> Callable[[], list[str]]:
    """The phases that were published, in order."""
    return lambda: [value for key, value in google.published if key == "phase"]


@pytest.fixture
def timeline(google: FakeGoogle) -> Callable[[], list[dict[str, object]]]:
    return lambda: json.loads(google.guest["timeline"])


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that the stand-in vLLM loads; tests must not change it."""
    return checkpoint.make(tmp_path_factory.mktemp("model"), checkpoint.LEAST_HUB_MB)


@pytest.fixture
def vllm(machine: Machine, small_weights: Path) -> Iterator["VllmNode"]:
    """The machine, with the stand-in vLLM as its unit; what it started ends with the test."""
    from tests.scripts.vllm_node import VllmNode

    node = VllmNode(machine, small_weights)
    yield node
    node.end()
