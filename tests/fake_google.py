"""What a VM talks to: metadata server, Secret Manager, Cloud Storage's JSON API over a folder."""

import base64
import hashlib
import itertools
import json
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "ya29.of-the-vm"
GENERATION = "1700000000000001"


def crc32c(data: bytes) -> str:
    """Not the real sum (that takes C): four bytes that change with the content, in its format."""
    return base64.b64encode(hashlib.sha256(data).digest()[:4]).decode()


class FakeGoogle:
    """Serves on loopback until `close`.

    faults: path fragment -> statuses still to answer, or (status, body). hook: sees each call after
    it took effect, before it is answered.
    """

    def __init__(self, folder: Path) -> None:
        self.buckets = folder
        self.attributes: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.guest: dict[str, str] = {}
        self.vm_id = "43"
        self.clock: Callable[[], float] = time.time
        self.published: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.faults: dict[str, list[int | tuple[int, Any]]] = {}
        self.hook: Callable[[str], None] = lambda call: None
        self._sessions: dict[str, tuple[str, dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self)

            def do_PUT(self) -> None:
                fake.answer(self)

            def do_POST(self) -> None:
                fake.answer(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(fake.clock() if timestamp is None else timestamp)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        return {
            "GCE_METADATA_HOST": self.host,
            "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"http://{self.host}/storage/v1/",
            "GOOGLE_SECRET_MANAGER_CUSTOM_ENDPOINT": f"http://{self.host}/secrets/v1/",
        }

    def put(self, uri: str, data: bytes | str) -> None:
        """An object at a gs:// address."""
        path = self.buckets / uri.removeprefix("gs://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    def read(self, uri: str) -> bytes:
        return (self.buckets / uri.removeprefix("gs://")).read_bytes()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        content = request.rfile.read(length)
        if len(content) < length:
            return  # the caller died in the middle of it
        self.asked.append(request.path)
        with self._lock:  # nobody sees half an object
            status, said = self._answer(request, content)
        self.hook(f"{request.command} {request.path}")
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        request.send_response(status)
        if status == 200 and request.command == "POST":
            request.send_header("Location", f"http://{self.host}/upload/{said}")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(self, request: BaseHTTPRequestHandler, content: bytes) -> tuple[int, Any]:
        path, _, query = request.path.partition("?")
        for fragment, answers in self.faults.items():
            if fragment in request.path and answers:
                answer = answers.pop(0)
                return answer if isinstance(answer, tuple) else (answer, {"error": "as told"})
        if request.command == "PUT" and path.startswith("/upload/"):
            return self._stored(path.removeprefix("/upload/"), content)
        body = content.decode()
        if path.startswith("/computeMetadata/v1/instance/"):
            if request.headers.get("Metadata-Flavor") != "Google":
                return 403, {"error": "Missing Metadata-Flavor:Google header."}
            return self._metadata(request.command, path.split("/instance/", 1)[1], body)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "no token"}
        if path.startswith("/secrets/v1/"):
            name = path.removeprefix("/secrets/v1/").removesuffix("/versions/latest:access")
            if name not in self.secrets:
                return 404, {"error": "no such secret"}
            text = base64.b64encode(self.secrets[name].encode()).decode()
            return 200, {"payload": {"data": text}}
        if path.startswith("/upload/storage/v1/b/"):
            bucket = path.removeprefix("/upload/storage/v1/b/").removesuffix("/o")
            name = urllib.parse.parse_qs(query)["name"][0]
            # Never a number twice: a client that died has left its session open.
            session = str(next(self._numbers))
            self._sessions[session] = (f"{bucket}/{name}", json.loads(body))
            return 200, session
        return self._storage(path.removeprefix("/storage/v1/b/"), query)

    def _metadata(self, method: str, path: str, body: str) -> tuple[int, Any]:
        kind, _, name = path.partition("/")
        if kind == "attributes" and name in self.attributes:
            return 200, self.attributes[name].encode()
        if path == "id" and self.vm_id:
            return 200, self.vm_id.encode()
        if path == "service-accounts/default/token":
            return 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        if method == "PUT" and path.startswith("guest-attributes/mayfly/"):
            key = path.rpartition("/")[2]
            self.guest[key] = body
            self.published.append((key, body))
            return 200, b""
        return 404, {"error": "not found"}

    def _storage(self, path: str, query: str) -> tuple[int, Any]:
        bucket, _, name = path.partition("/o")
        folder = self.buckets / bucket
        if name.startswith("/"):
            file = folder / urllib.parse.unquote(name[1:])
            return (
                (200, file.read_bytes()) if file.is_file() else (404, {"error": "No such object"})
            )
        prefix = urllib.parse.parse_qs(query)["prefix"][0]
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".meta")
        keys = {str(file.relative_to(folder)): file for file in files}
        items = [self._item(key, file) for key, file in keys.items() if key.startswith(prefix)]
        return 200, {"items": items} if items else {}

    def _stored(self, session: str, content: bytes) -> tuple[int, Any]:
        """A resumable upload's one and only PUT, held to the MD5 that it announced."""
        if session not in self._sessions:
            return 404, google_error(404, "notFound", f"No upload session {session}.")
        name, resource = self._sessions.pop(session)
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        if resource.get("md5Hash", md5) != md5:
            return 400, google_error(400, "invalid", f"Provided MD5 hash is not {md5}.")
        self.put(f"gs://{name}", content)
        path = self.buckets / name
        path.with_name(f"{path.name}.meta").write_text(json.dumps(resource.get("metadata", {})))
        return 200, {**self._item(name.partition("/")[2], path), "md5Hash": md5}

    def _item(self, key: str, file: Path) -> dict[str, Any]:
        data, beside = file.read_bytes(), file.with_name(f"{file.name}.meta")
        item: dict[str, Any] = {
            "name": key,
            "size": str(len(data)),
            "crc32c": crc32c(data),
            "generation": GENERATION,
        }
        if beside.exists():
            item["metadata"] = json.loads(beside.read_text())
        return item


def google_error(status: int, reason: str, message: str) -> dict[str, Any]:
    """As Cloud Storage's JSON API says it."""
    entry = {"message": message, "domain": "global", "reason": reason}
    return {"error": {"code": status, "message": message, "errors": [entry]}}


def manifest_of(files: dict[str, bytes]) -> str:
    """The manifest.json of these contents."""
    rows = [
        {
            "name": name,
            "size": len(data),
            "crc32c": crc32c(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in files.items()
    ]
    whole = {"format": 1, "source": "a test", "created": "2026-11-23T00:00:00Z", "files": rows}
    return json.dumps(whole)
