"""Cloud Storage: whole objects, and the generation that makes a write happen once."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from mayfly.cloud.endpoints import upload_url
from mayfly.cloud.errors import CORRUPTED, UNREACHABLE, CloudError
from mayfly.cloud.http import Call, Http

MISSING = frozenset({404})
PRECONDITION_FAILED = 412
PART, BEYOND_ITS_END = 206, 416
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Blob:
    """An object's bytes and the generation they belong to."""

    data: bytes
    generation: int


class Storage:
    """Objects in buckets."""

    def __init__(self, http: Http, base: str) -> None:
        self._http = http
        self._base = base
        self._upload_base = upload_url(base)

    def get(self, bucket: str, name: str) -> Blob | None:
        """Read a whole object into memory; None when there is none."""
        call = Call(method="GET", url=self._url(bucket, name), params={"alt": "media"})
        response = self._http.send(call, allow=MISSING).response
        if response.status_code == 404:
            return None
        return Blob(response.content, int(response.headers["x-goog-generation"]))

    def read(self, bucket: str, name: str, start: int, end: int) -> bytes | None:
        """The bytes from `start` to before `end`, fewer where it ends sooner; None: no object."""
        call = Call(
            method="GET",
            url=self._url(bucket, name),
            params={"alt": "media"},
            headers={"Range": f"bytes={start}-{end - 1}"},
        )
        response = self._http.send(call, allow=MISSING | {BEYOND_ITS_END}).response
        if response.status_code == 404:
            return None
        return response.content if response.status_code == PART else b""

    def download(self, bucket: str, name: str, path: Path) -> str | None:
        """Write an object to a file without holding it in memory; returns its sha256 in hex.

        None when there is no such object. A broken transfer raises and leaves a part behind.
        """
        call = Call(method="GET", url=self._url(bucket, name), params={"alt": "media"}, stream=True)
        response = self._http.send(call, allow=MISSING).response
        with response:
            if response.status_code == 404:
                return None
            digest = hashlib.sha256()
            try:
                with path.open("wb") as file:
                    for chunk in response.iter_content(CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
            except requests.RequestException as error:
                raise CloudError(0, UNREACHABLE, f"{call}: broke off: {error}") from error
        return digest.hexdigest()

    def put(
        self, bucket: str, name: str, data: bytes, *, if_generation_match: int | None = None
    ) -> int | None:
        """Write an object and return its generation; None when the precondition failed.

        if_generation_match: 0 = only when there is none yet.
        """
        params: dict[str, str | int] = {"uploadType": "media", "name": name}
        if if_generation_match is not None:
            params["ifGenerationMatch"] = if_generation_match
        call = Call(
            method="POST",
            url=f"{self._upload_base}b/{quote(bucket, safe='')}/o",
            params=params,
            data=data,
            content_type="application/octet-stream",
        )
        answer = self._http.send(call, allow=frozenset({PRECONDITION_FAILED}))
        if answer.response.status_code != PRECONDITION_FAILED:
            return int(answer.json()["generation"])
        # The first try may have worked and only its answer been lost.
        there = self.get(bucket, name) if answer.repeated else None
        return there.generation if there is not None and there.data == data else None

    def upload(self, bucket: str, name: str, path: Path) -> None:
        """Write a file as an object, streamed. CloudError where it did not arrive as it is."""
        call = Call(
            method="POST",
            url=f"{self._upload_base}b/{quote(bucket, safe='')}/o",
            params={"uploadType": "media", "name": name},
            data=path,
            content_type="application/octet-stream",
        )
        held = self._http.send(call).json()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").digest()
        if held.get("md5Hash") != base64.b64encode(digest).decode():
            what = f"gs://{bucket}/{name} arrived with md5 {held.get('md5Hash')}, not its own"
            raise CloudError(0, CORRUPTED, what)

    def bucket(self, bucket: str) -> dict[str, Any] | None:
        """Read a bucket; None when nobody has one of this name."""
        call = Call(method="GET", url=self._bucket_url(bucket))
        answer = self._http.send(call, allow=MISSING)
        if answer.missing:
            return None
        found: dict[str, Any] = answer.json()
        return found

    def create_bucket(self, project: str, wanted: dict[str, Any]) -> None:
        """Make a bucket. CloudError 409 where there is one of this name, anybody's."""
        call = Call(
            method="POST",
            url=f"{self._base}b",
            params={"project": project},
            json=wanted,
            repeatable=False,
        )
        self._http.send(call)

    def change_bucket(self, bucket: str, changes: dict[str, Any]) -> None:
        """Change some of a bucket's fields."""
        self._http.send(Call(method="PATCH", url=self._bucket_url(bucket), json=changes))

    def delete(self, bucket: str, name: str, *, if_generation_match: int | None = None) -> bool:
        """Delete an object. True: it is not there any more; False: the precondition failed."""
        params = None if if_generation_match is None else {"ifGenerationMatch": if_generation_match}
        call = Call(method="DELETE", url=self._url(bucket, name), params=params)
        response = self._http.send(call, allow=MISSING | {PRECONDITION_FAILED}).response
        return response.status_code != PRECONDITION_FAILED

    def list(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield the metadata of every object under a prefix, page by page."""
        params: dict[str, str | int] = {"prefix": prefix}
        url = f"{self._base}b/{quote(bucket, safe='')}/o"
        while True:
            call = Call(method="GET", url=url, params=params, page=True)
            page = self._http.send(call).json()
            yield from page.get("items", [])
            token = page.get("nextPageToken")
            if not token:
                return
            params["pageToken"] = token

    def _bucket_url(self, bucket: str) -> str:
        return f"{self._base}b/{quote(bucket, safe='')}"

    def _url(self, bucket: str, name: str) -> str:
        return f"{self._bucket_url(bucket)}/o/{quote(name, safe='')}"
