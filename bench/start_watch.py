"""Ask a real server what a user would, and let the real watchdog look at it until it ends.

Used by bench/start.py. The watchdog is startup/watchdog.py, unchanged, with short limits and a
power-off that only says so; it talks to a metadata server on loopback that keeps what it is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from startup import probes, watchdog

BUSY_TOKENS = 800
WATCH_LIMIT_S = 90.0
PATHS = ("/v1/models", "/invocations", "/tokenize", "/health", "/metrics", "/docs")


def ask(port: int, model: str, key: str, tokens: int) -> dict[str, Any]:
    """One streamed chat completion: seconds to its first token and in all, and its tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    began = time.monotonic()
    first_s, used = None, None
    with urllib.request.urlopen(request, timeout=120) as response:
        for raw in response:
            said = raw.decode().removeprefix("data: ").strip()
            if not said.startswith("{"):
                continue
            first_s = first_s or round(time.monotonic() - began, 3)
            used = json.loads(said).get("usage") or used
    return {"first_s": first_s, "all_s": round(time.monotonic() - began, 3), "usage": used}


def answer(port: int, model: str, key: str) -> dict[str, Any]:
    """A first and a second short request, and what each path says without the key."""
    return {
        "first": ask(port, model, key, 64),
        "second": ask(port, model, key, 64),
        "without_key": {path: status(port, path) for path in PATHS},
    }


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def check(env: Mapping[str, str]) -> dict[str, Any]:
    """Stage 60's own question; the numbers are random, so its answer may well be a refusal."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "startup.check"],
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    took_s = round(time.monotonic() - began, 2)
    return {"exit": done.returncode, "seconds": took_s, "said": (done.stdout + done.stderr)[-600:]}


class Metadata(BaseHTTPRequestHandler):
    """Guest attributes are kept, a token is handed out, everything else is not there."""

    told: dict[str, str] = {}  # noqa: RUF012  # one server a process

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told[self.path.rpartition("/")[2]] = body.decode()
        self._say(200, b"")

    def do_GET(self) -> None:
        if self.path.endswith("/token"):
            self._say(200, b'{"access_token":"none","expires_in":3600}')
        else:
            self._say(404, b"not here")

    def _say(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def metadata_server() -> Iterator[dict[str, str]]:
    """Serves in this process and points this process at itself; yields what it is told."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    os.environ["GCE_METADATA_HOST"] = host
    os.environ["GOOGLE_STORAGE_CUSTOM_ENDPOINT"] = f"http://{host}/storage/v1/"
    try:
        yield Metadata.told
    finally:
        server.shutdown()
        server.server_close()


def watch(root: Path, asking: Callable[[int], Any], port: int, idle_s: float) -> dict[str, Any]:
    """Look as the watchdog does: quiet, then a request, then quiet until it ends the VM.

    asking: sends one request for so many tokens. idle_s: the watchdog's limit.

    root/proc and root/dev/pts are made empty, so that nobody on this machine counts as present.
    """
    for folder in (root / "proc", root / "dev/pts", root / "run/mayfly", root / "var/lib/mayfly"):
        folder.mkdir(parents=True, exist_ok=True)
    for left in ("run/mayfly/watchdog.json", "var/lib/mayfly/age"):
        (root / left).unlink(missing_ok=True)
    (root / "run/mayfly/phase").write_text("serving")
    os.environ["MAYFLY_ROOT"] = str(root)
    limits = {"IDLE": idle_s, "START": 600, "FAILED": 60, "HEARTBEAT": 30, "MAX_LIFE": 3600}
    settings = {f"MAYFLY_{name}_S": str(value) for name, value in limits.items()}
    settings |= {
        "MAYFLY_PORT": str(port),
        "MAYFLY_STATE_BUCKET": "none",
        "MAYFLY_SESSION": "measured",
    }
    with metadata_server() as told:
        return {"idle_s": idle_s, **_looks(settings, told, lambda: asking(BUSY_TOKENS))}


def _looks(settings: dict[str, str], told: dict[str, str], work: Any) -> dict[str, Any]:
    ended: list[str] = []
    dog = watchdog.Watchdog(settings, lambda: ended.append("power off"))
    metrics = probes.Metrics(int(settings["MAYFLY_PORT"]), {})
    began = time.monotonic()
    worker = threading.Thread(target=work, daemon=True)
    rows: list[dict[str, Any]] = []
    while not ended and time.monotonic() - began < WATCH_LIMIT_S:
        at = time.monotonic() - began
        if at >= dog.limits.idle_s / 3 and worker.ident is None:
            worker.start()
        busy = bool(metrics(0.0))
        verdict = dog.look()
        rows.append(
            {
                "at_s": round(at, 1),
                "metrics_active": busy,
                "request_running": worker.is_alive(),
                "kind": verdict.kind,
                "end": verdict.end,
                "reason": verdict.reason,
                "heartbeat": told.get("heartbeat"),
                "active_at": told.get("active_at"),
            }
        )
        time.sleep(watchdog.period_s(dog.limits))
    return {"looks": rows, "ended": ended, "told": dict(told)}
