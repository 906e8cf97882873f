"""One file into the bucket: whole and checked on arrival, with what is known of it, or not at all.

An object appears in Cloud Storage only when its last byte is there and its MD5 is the one that was
announced, so that a seed which is killed at any moment leaves only files that are done.
`python3 -m startup.seed_upload FOLDER URI SOURCE` does it for a script with every file of a folder,
their manifest last; its last line says why not.
"""

import base64
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from startup import cloud, manifest

TRIES = 6
FOLDER_PARALLEL = 4
STALL_S = 120.0
BLOCK_BYTES = 4 << 20
# Google's words for "not so fast", which it also says with a 403.
TOO_FAST = ("rateLimitExceeded", "userRateLimitExceeded")
AGAIN = (0, 408, 429, 500, 502, 503, 504)


class SeedError(Exception):
    """Why it cannot go on, in words for the user: what, what it means, the command."""


class RefusedError(Exception):
    """status: HTTP's, 0 when no answer came. reason, message: Google's own."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    @property
    def passes(self) -> bool:
        return self.status in AGAIN or (self.status == 403 and self.reason in TOO_FAST)


def no_news(_: int) -> None:
    """For who does not want to know how many bytes have gone."""


def store(
    data: Path | bytes,
    uri: str,
    known: Mapping[str, str],
    *,
    sent: Callable[[int], None] = no_news,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The object as Cloud Storage describes it, once it is there. SeedError says why it is not.

    known: the object's own metadata. sent: is told how many bytes went since the last call. What
    may pass is tried six times.
    """
    md5 = md5_of(data)
    pause_s = 1.0
    for left in reversed(range(TRIES)):
        try:
            return _once(data, uri, {"md5Hash": md5, "metadata": dict(known)}, sent)
        except RefusedError as refusal:
            if not refusal.passes or not left:
                raise SeedError(explain(refusal, uri)) from refusal
            print(f"{uri}: {refusal.status} {refusal.message}; again in {pause_s:.0f} s")
        sleep(pause_s)
        pause_s *= 2
    raise AssertionError(TRIES)


def _once(
    data: Path | bytes, uri: str, resource: Mapping[str, Any], sent: Callable[[int], None]
) -> dict[str, Any]:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    bucket, name = cloud.split_uri(uri)
    query = urllib.parse.urlencode({"uploadType": "resumable", "name": name})
    start = f"{_uploads()}b/{urllib.parse.quote(bucket, safe='')}/o?{query}"
    try:
        token = cloud.token()
    except cloud.CloudError as error:
        raise RefusedError(error.status, "", str(error)) from error
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    session, _ = _send("POST", start, headers, json.dumps(resource).encode())
    length = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    _, body = _send("PUT", str(session["Location"]), length, _blocks(data, sent))
    try:
        stored: dict[str, Any] = json.loads(body)
    except ValueError as error:
        raise RefusedError(0, "", f"an answer that is not JSON: {error}") from error
    if stored.get("md5Hash", resource["md5Hash"]) != resource["md5Hash"]:
        raise RefusedError(0, "", "what arrived has another MD5")
    return stored


def _uploads() -> str:
    base = os.environ.get("GOOGLE_STORAGE_CUSTOM_ENDPOINT") or "https://storage.googleapis.com/"
    parts = urllib.parse.urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}/upload/storage/v1/"


def _send(
    method: str, url: str, headers: Mapping[str, str], body: bytes | Iterator[bytes]
) -> tuple[Mapping[str, str], bytes]:
    """The answer's headers and body. RefusedError for anything but 2xx, or STALL_S of silence."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=STALL_S)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers))
        answer = connection.getresponse()
        said = answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise RefusedError(0, "", f"{parts.netloc} does not answer: {error!r}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise refused(answer.status, said)
    return answer.headers, said


def refused(status: int, body: bytes) -> RefusedError:
    """Google's error in JSON, or whatever came instead."""
    try:
        error = json.loads(body)["error"]
        return RefusedError(
            status, str(error["errors"][0].get("reason", "")), str(error["message"])
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return RefusedError(status, "", body[:200].decode("utf-8", "replace"))


def _blocks(data: Path | bytes, sent: Callable[[int], None]) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
            sent(len(block))


def md5_of(data: Path | bytes) -> str:
    """Base64, as Cloud Storage says it."""
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(data, bytes):
        digest.update(data)
    else:
        with data.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def explain(refusal: RefusedError, uri: str) -> str:
    """What it means that Google does not take the file, and the command."""
    bucket, _ = cloud.split_uri(uri)
    again = f"mayfly seed {os.environ.get('MAYFLY_PROFILE', 'PROFILE')}"
    said = f"({refusal.status} {refusal.reason}: {' '.join(refusal.message.split())[:300]})"
    if refusal.status == 404:
        what = f"there is no bucket {bucket} {said}. Run: pulumi up --stack foundation"
    elif refusal.reason == "accountDisabled":
        what = f"billing is off for the project of bucket {bucket} {said}. Link a billing account "
        what += f"(gcloud billing projects link), then run: {again}"
    elif refusal.status == 429 or "quota" in refusal.reason.lower() or refusal.passes:
        what = f"Cloud Storage takes no more into {bucket} for now {said}. If a quota is used up, "
        what += f"have it raised (IAM & Admin, Quotas). Then run: {again}"
    elif refusal.status in (401, 403):
        what = f"the seeder has no right to write to {bucket} {said}. "
        what += "Run: pulumi up --stack foundation"
    else:
        what = f"Cloud Storage refuses {uri} {said}. Run: {again}"
    return f"{what}. What is in the bucket stays there"


def store_folder(folder: Path, uri: str, source: str) -> None:
    """Every file of a folder, a few at a time, and then their manifest. SeedError: why not."""

    def one(path: Path) -> dict[str, Any]:
        sha256 = manifest.sha256(path)
        item = store(path, f"{uri}/{path.name}", {"sha256": sha256})
        size = path.stat().st_size
        return {"name": path.name, "size": size, "crc32c": item["crc32c"], "sha256": sha256}

    with ThreadPoolExecutor(FOLDER_PARALLEL) as pool:
        entries = list(pool.map(one, sorted(folder.iterdir())))
    store(manifest.whole(entries, source).encode(), f"{uri}/manifest.json", {})


def main(argv: list[str]) -> int:
    folder, uri, source = argv
    try:
        store_folder(Path(folder), uri, source)
    except SeedError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
