"""Runs the stand-in vLLM on the host, where a test has no need of a machine."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.children import free_port

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "local/machine/guest/wheels"
KEY = "test-key-0123456789"
FLAGS = [
    *("-tp", "8", "--served-model-name", "kimi-k2.5", "--max-model-len", "32768"),
    *("--gpu-memory-utilization", "0.96", "--max-num-seqs", "8"),
    *("--max-num-batched-tokens", "2048", "--language-model-only", "--trust-remote-code"),
]
KIMI = ["--enable-auto-tool-choice", "--tool-call-parser=kimi_k2", "--reasoning-parser=kimi_k2"]
HOST = {
    "gpu_model": "NVIDIA H100 80GB HBM3",
    "gpu_count": 8,
    "settings": {"vllm_load_s": "0", "vllm_tokens_per_s": "400"},
}


@dataclass
class Server:
    """A running one."""

    port: int
    process: subprocess.Popen[str]

    def ask(
        self, path: str, body: Any = None, *, key: str | None = KEY, method: str | None = None
    ) -> tuple[int, dict[str, str], str]:
        """(status, headers in lower case, text)."""
        headers = {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, lowered(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, lowered(error.headers), error.read().decode()

    def chat(self, **fields: Any) -> tuple[int, Any]:
        """(status, parsed answer) of a chat completion."""
        messages = [{"role": "user", "content": "hello"}]
        body = {"model": "kimi-k2.5", "messages": messages, **fields}
        status, _, text = self.ask("/v1/chat/completions", body)
        return status, json.loads(text)

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        lines = self.ask("/metrics")[2].splitlines()
        found = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        assert found, name
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def lowered(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def command(model: Path, flags: list[str]) -> list[str]:
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), *flags]


def environment(tmp: Path, **more: str) -> dict[str, str]:
    """A machine of eight H100 whose pace is quick; the driver's state is taken for granted."""
    return {
        **os.environ,
        "PYTHONPATH": f"{WHEELS}:{ROOT}",
        "VLLM_MACHINE": json.dumps(HOST),
        "VLLM_CACHE_ROOT": str(tmp / "caches"),
        **more,
    }


@contextlib.contextmanager
def serving(model: Path, tmp: Path, flags: list[str], **more: str) -> Iterator[Server]:
    """Yields when it answers; kills it afterwards."""
    port = free_port()
    words = command(model, [*FLAGS, "--host", "127.0.0.1", "--port", str(port), *flags])
    log = tmp / "vllm.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            words, env=environment(tmp, **more), stdout=output, stderr=output, text=True
        )
    server = Server(port, process)
    try:
        wait(server, log)
        yield server
    finally:
        process.kill()
        process.wait(60)


def wait(server: Server, log: Path) -> None:
    pause = threading.Event()
    for _ in range(300):
        with contextlib.suppress(OSError):
            if server.ask("/health")[0] == 200:
                return
        assert server.process.poll() is None, log.read_text()
        pause.wait(0.1)
    raise AssertionError(log.read_text())
