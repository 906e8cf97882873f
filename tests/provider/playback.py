"""A REST server that plays back answers, in order per method and address, and keeps what it was
asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BASES = {
    "COMPUTE": "compute/beta",
    "STORAGE": "storage/storage/v1",
    "CLOUDFUNCTIONS2": "functions/v2beta",
    "CLOUD_SCHEDULER": "scheduler/v1",
    "CLOUD_RUN_V2": "run/v2",
    "KMS": "kms/v1",
    "SECRET_MANAGER": "secrets/v1",
    "IAM_BETA": "iam/v1",
    "RESOURCE_MANAGER": "crm/v1",
    "CLOUD_BILLING": "cloudbilling/v1",
    "BILLING_BUDGETS": "budgets/v1",
    "CLOUD_QUOTAS": "quotas/v1beta",
    "SERVICE_USAGE": "serviceusage/v1",
}
DROP = "drop the connection"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    body: Any


@dataclass
class Playback:
    """The server's answers (status, body) by (method, address), and its visitors' book."""

    answers: dict[tuple[str, str], deque[tuple[int, Any]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def add(self, method: str, path: str, body: Any, status: int = 200) -> None:
        """One more answer for this call."""
        self.answers[method, path].append((status, body))

    def environment(self, project: str = "proj") -> dict[str, str]:
        """What points the provider at this server."""
        endpoints = {
            f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{self.url}/{base}/" for name, base in BASES.items()
        }
        return {
            **endpoints,
            "GOOGLE_PROJECT": project,
            "GOOGLE_OAUTH_ACCESS_TOKEN": "fake",
            "STANDIN_WAIT_SCALE": "0",
        }

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """The next answer for this call; 501 where there is none."""
        with self.lock:
            self.asked.append(asked)
            waiting = self.answers.get((asked.method, asked.path))
            if not waiting:
                return 501, {"error": {"code": 501, "message": f"not recorded: {asked}"}}
            return waiting.popleft()


def _handler(playback: Playback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = _parsed(raw, self.headers.get("Content-Type", ""))
            status, answer = playback.answer(Asked(self.command, self.path, body))
            if answer == DROP:
                self.close_connection = True
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _parsed(raw: bytes, kind: str) -> Any:
    if not raw:
        return None
    if not kind.startswith("multipart/"):
        return json.loads(raw)
    boundary = kind.partition("boundary=")[2].encode()
    parts = []
    for part in raw.split(b"--" + boundary)[1:-1]:
        head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
        kind = head.decode().partition(": ")[2]
        if kind == "application/json":
            parts.append({"contentType": kind, "json": json.loads(content)})
        else:
            parts.append({"contentType": kind, "bytes": len(content)})
    return {"_multipart": parts}


@contextmanager
def playing(calls: Iterable[dict[str, Any]] = ()) -> Iterator[Playback]:
    """A running server; `calls` are recorded lines (method, path, status, response)."""
    playback = Playback()
    for call in calls:
        playback.add(call["method"], call["path"], call["response"], call["status"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(playback))
    server.daemon_threads = True
    playback.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield playback
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
