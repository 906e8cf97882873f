"""fake-gcs-server as storage.py sees it: objects of buckets that exist, nothing more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import urllib3

BLOCK_BYTES = 256 * 1024
TIMEOUT = urllib3.Timeout(connect=10, read=300)


class Backend:
    """A pool of connections to one fake-gcs-server. Safe to call from any thread."""

    def __init__(self, url: str) -> None:
        """url: "http://127.0.0.1:PORT"."""
        self.url = url
        self._pool = urllib3.connection_from_url(
            url, maxsize=64, block=False, retries=False, timeout=TIMEOUT, blocksize=BLOCK_BYTES
        )

    def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """One JSON call; (status, answer)."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = json.dumps(body).encode() if body is not None else None
        answer = self._pool.request(method, _url(path, query), body=data, headers=headers)
        return answer.status, _json(answer.data)

    def open_upload(
        self, path: str, query: Mapping[str, str], metadata: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any], str]:
        """Begin a resumable upload; (status, answer, the upload's id)."""
        answer = self._pool.request("POST", _url(path, query), body=json.dumps(metadata).encode())
        location = urlsplit(answer.headers.get("Location", ""))
        return answer.status, _json(answer.data), parse_qs(location.query).get("upload_id", [""])[0]

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: IO[bytes] | Iterator[bytes] | None,
    ) -> urllib3.BaseHTTPResponse:
        """One call whose body and answer are streamed: read or release the answer."""
        return self._pool.urlopen(
            method,
            _url(path, query),
            body=body,
            headers=dict(headers),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )


def object_path(bucket: str, name: str) -> str:
    """The JSON API's path of an object."""
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def download_path(bucket: str, name: str) -> str:
    return "/download" + object_path(bucket, name)


def upload_path(bucket: str) -> str:
    return f"/upload/storage/v1/b/{quote(bucket, safe='')}/o"


def read_json(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """The whole of a small streamed answer; its connection goes back to the pool."""
    try:
        return _json(answer.read())
    finally:
        answer.release_conn()


def stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """An answer's body in blocks; left early, its connection is closed instead of used again."""
    try:
        yield from answer.stream(BLOCK_BYTES, decode_content=False)
    except GeneratorExit:
        answer.close()
        raise
    finally:
        answer.release_conn()


def _url(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        return {"text": data.decode(errors="replace")}
    return found if isinstance(found, dict) else {}
