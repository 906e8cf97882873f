"""A model hub that speaks Hugging Face's protocol to the real huggingface_hub client.

`python -m local.hub --repo moonshotai/Kimi-K2.5@COMMIT=DIRECTORY [--port N]` serves until it is
ended. Large files are answered as the hub answers them: a redirect to another origin (the same
server by its other name), which honours Range.
"""

import argparse
import hashlib
import json
import re
import signal
import sys
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LFS_FROM_BYTES = 10 * 1024 * 1024
LFS_SUFFIXES = (".safetensors", ".model", ".bin", ".gguf")
_CHUNK = 1024 * 1024
_PAGE = 50
_BODY_LIMIT = 1024 * 1024


@dataclass
class Repo:
    """One model repository with one commit, which is also `main`."""

    directory: Path
    commit: str
    gated: bool = False
    _hashes: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def files(self) -> list[str]:
        found = (path for path in self.directory.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.directory).as_posix() for path in found)

    def has(self, name: str) -> bool:
        return name in self.files()

    def size(self, name: str) -> int:
        return (self.directory / name).stat().st_size

    def large(self, name: str) -> bool:
        return name.endswith(LFS_SUFFIXES) or self.size(name) >= LFS_FROM_BYTES

    def oid(self, name: str) -> str:
        """git's hash of a small file, SHA-256 of a large one."""
        with self._lock:
            if name not in self._hashes:
                self._hashes[name] = self._hash(name)
            return self._hashes[name]

    def _hash(self, name: str) -> str:
        path = self.directory / name
        if not self.large(name):
            data = path.read_bytes()
            return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        """As the tree API lists a file."""
        entry: dict[str, Any] = {"type": "file", "oid": self.oid(name), "size": self.size(name)}
        if self.large(name):
            pointer = hashlib.sha1(self.oid(name).encode()).hexdigest()
            entry |= {
                "oid": pointer,
                "lfs": {"oid": self.oid(name), "size": self.size(name), "pointerSize": 135},
            }
        return {**entry, "path": name}


class HubError(Exception):
    """An answer that is not 200. wait_s: for `Retry-After`; None leaves it out."""

    def __init__(self, status: int, code: str, message: str, wait_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.wait_s = status, code, wait_s

    def headers(self) -> dict[str, str]:
        """As the hub marks an error: what a client goes by, not the body."""
        found = {"X-Error-Code": self.code} if self.code else {}
        found["X-Error-Message"] = str(self)
        if self.status == 429:
            found["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
            found["RateLimit"] = f'"api";r=0;t={self.wait_s or 0}'
        if self.wait_s is not None:
            found["Retry-After"] = str(self.wait_s)
        return found


def too_many(wait_s: int) -> HubError:
    """The rate limit's refusal, for so many seconds."""
    return HubError(429, "", "We had to rate limit your IP. Please try again later.", wait_s)


def broken(status: int) -> HubError:
    """What the hub's front answers when the hub itself does not."""
    return HubError(
        status, "", "Internal Error - We're working hard to fix this as soon as possible!"
    )


@dataclass
class Hub:
    """The server's state. tokens: may read gated repositories. strangers: valid, but may not.

    troubles: each is the answer to one request more. hook: sees each request before it is answered.
    """

    repos: dict[str, Repo]
    tokens: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()
    troubles: list[HubError] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    hook: Callable[[str], None] = lambda call: None

    def check_token(self, token: str) -> None:
        """A token that is none is refused everywhere, also where none is needed."""
        if token and token not in self.tokens | self.strangers:
            raise HubError(401, "", "Invalid credentials in Authorization header")

    def repo(self, name: str, token: str) -> Repo:
        """The repository, if there is one. Without a token it might also be a private one."""
        repo = self.repos.get(name)
        if repo is None and token:
            raise HubError(404, "RepoNotFound", "Repository not found")
        if repo is None:
            raise HubError(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def readable(self, name: str, token: str) -> Repo:
        """The repository, if `token` may read its files."""
        repo = self.repo(name, token)
        if not repo.gated or token in self.tokens:
            return repo
        if not token:
            raise HubError(
                401,
                "GatedRepo",
                f"Access to model {name} is restricted. You must have access to it and be "
                "authenticated to access it. Please log in.",
            )
        raise HubError(
            403,
            "GatedRepo",
            f"Access to model {name} is restricted and you are not in the authorized list. "
            f"Visit https://huggingface.co/{name} to ask for access.",
        )

    @staticmethod
    def check_revision(repo: Repo, revision: str) -> None:
        if revision not in ("main", repo.commit, repo.commit[:7]):
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")


class Handler(BaseHTTPRequestHandler):
    """GET, HEAD and POST as the client sends them."""

    protocol_version = "HTTP/1.1"
    timeout = 120.0
    hub: Hub

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _BODY_LIMIT))
        split = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(split.path)
        query = dict(urllib.parse.parse_qsl(split.query))
        self.hub.calls.append(f"{self.command} {path}")
        self.hub.hook(f"{self.command} {path}")
        try:
            if self.hub.troubles:
                raise self.hub.troubles.pop(0)
            self._route(path, query, body)
        except HubError as error:
            self._json({"error": str(error)}, error.status, error.headers())

    def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.check_token(token)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._model(match[1], match[2] or "main", token, query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            return self._tree(match[1], match[2], token, query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/paths-info/([^/]+)", path):
            return self._paths(match[1], match[2], token, body)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3], token)
        if match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{64})", path):
            return self._cdn(match[1], match[2])
        if path == "/api/whoami-v2":
            return self._whoami(token)
        raise HubError(404, "", "Sorry, we can't find the page you are looking for.")

    def _whoami(self, token: str) -> None:
        if not token:
            raise HubError(401, "", "Invalid username or password.")
        self._json({"type": "user", "name": "example", "auth": {"type": "access_token"}})

    def _model(self, name: str, revision: str, token: str, query: dict[str, str]) -> None:
        repo = self.hub.repo(name, token)
        self.hub.check_revision(repo, revision)
        blobs = query.get("blobs", "").lower() == "true"
        siblings = []
        for file in repo.files():
            entry: dict[str, Any] = {"rfilename": file}
            if blobs:
                listed = repo.entry(file)
                entry |= {"size": listed["size"], "blobId": listed["oid"]}
                if "lfs" in listed:
                    lfs = listed["lfs"]
                    entry["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 135}
            siblings.append(entry)
        self._json(
            {
                "_id": "6957c0000000000000000000",
                "id": name,
                "modelId": name,
                "author": name.split("/")[0],
                "sha": repo.commit,
                "lastModified": "2026-01-27T00:00:00.000Z",
                "private": False,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 1,
                "likes": 0,
                "siblings": siblings,
            }
        )

    def _tree(self, name: str, revision: str, token: str, query: dict[str, str]) -> None:
        """Every file, a page at a time. Only recursive listings from the top are known."""
        repo = self.hub.repo(name, token)
        self.hub.check_revision(repo, revision)
        files = repo.files()
        start = int(query.get("cursor", "0"))
        page = [repo.entry(file) for file in files[start : start + _PAGE]]
        headers = {}
        if start + _PAGE < len(files):
            following = urllib.parse.urlencode({**query, "cursor": start + _PAGE})
            path = f"/api/models/{name}/tree/{revision}"
            headers["Link"] = f'<{self._base()}{path}?{following}>; rel="next"'
        self._json(page, 200, headers)

    def _paths(self, name: str, revision: str, token: str, body: bytes) -> None:
        repo = self.hub.repo(name, token)
        self.hub.check_revision(repo, revision)
        if "json" in (self.headers.get("Content-Type") or ""):
            wanted = json.loads(body).get("paths", [])
        else:
            wanted = urllib.parse.parse_qs(body.decode()).get("paths", [])
        self._json([repo.entry(file) for file in wanted if repo.has(file)])

    def _resolve(self, name: str, revision: str, file: str, token: str) -> None:
        repo = self.hub.readable(name, token)
        self.hub.check_revision(repo, revision)
        if not repo.has(file):
            raise HubError(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{repo.oid(file)}"'}
        if not repo.large(file):
            return self._file(repo.directory / file, headers)
        headers |= {
            "X-Linked-Size": str(repo.size(file)),
            "X-Linked-Etag": f'"{repo.oid(file)}"',
            "Location": f"{self._elsewhere()}/cdn/{name}/{repo.oid(file)}",
        }
        return self._send(302, b"", headers)

    def _cdn(self, name: str, oid: str) -> None:
        repo = self.hub.repos.get(name)
        for file in repo.files() if repo else []:
            if repo is not None and repo.large(file) and repo.oid(file) == oid:
                return self._file(repo.directory / file, {"ETag": f'"{oid}"'})
        raise HubError(404, "EntryNotFound", "Entry not found")

    def _file(self, path: Path, headers: dict[str, str]) -> None:
        """Whole, or the one range that is asked for."""
        size = path.stat().st_size
        start, end, status = 0, size, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(match[1]), min(int(match[2] or size) + bool(match[2]), size)
            if start >= size:
                return self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            status = 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self._head(status, end - start, {**headers, "Accept-Ranges": "bytes"})
        if self.command == "HEAD":
            return None
        with path.open("rb") as file:
            file.seek(start)
            left = end - start
            while left and (data := file.read(min(_CHUNK, left))):
                self.wfile.write(data)
                left -= len(data)
        return None

    def _base(self) -> str:
        return f"http://{self.headers.get('Host')}"

    def _elsewhere(self) -> str:
        """Another origin, as the hub's CDN is: clients send no token there."""
        host, _, port = str(self.headers.get("Host")).rpartition(":")
        return f"http://{'127.0.0.1' if host == 'localhost' else 'localhost'}:{port}"

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        head = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        self._send(status, json.dumps(content).encode(), head)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """`Hub.calls` tells what was asked."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer is no news."""


def serve(hub: Hub, port: int = 0) -> ThreadingHTTPServer:
    """Answer in a thread; `server_port` says where, `shutdown` and `server_close` end it."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


def parse_repo(text: str) -> tuple[str, Repo]:
    """`org/name@commit=directory`."""
    match = re.fullmatch(r"([^@=]+/[^@=]+)@([0-9a-f]{40})=(.+)", text)
    if match is None or not Path(match[3]).is_dir():
        raise argparse.ArgumentTypeError(f"not org/name@commit=directory: {text}")
    return match[1], Repo(Path(match[3]), match[2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.hub")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--repo", type=parse_repo, action="append", required=True)
    parser.add_argument("--gated", action="append", default=[], metavar="REPO")
    parser.add_argument("--token", action="append", default=[], help="may read gated repositories")
    parser.add_argument("--stranger", action="append", default=[], help="a token that may not")
    arguments = parser.parse_args()
    hub = Hub(dict(arguments.repo), frozenset(arguments.token), frozenset(arguments.stranger))
    for name in arguments.gated:
        hub.repos[name].gated = True
    server = serve(hub, arguments.port)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(main())
