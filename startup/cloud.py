"""The VM's own door to Google: metadata server, Secret Manager, Cloud Storage's JSON API.

Standard library only. Every call ends within its timeout, whatever the other side does, and
never goes through a proxy. As a command (`python3 -m startup.cloud get|secret NAME`) it prints
the content; exit status 4 says "there is no such thing", 5 "no right to it".
"""

import base64
import contextlib
import email.utils
import functools
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

MAX_BYTES = 64 << 20
FLAVOR = {"Metadata-Flavor": "Google"}


class CloudError(Exception):
    """status: the HTTP status, or 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def fetch(
    url: str,
    *,
    method: str = "GET",
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 10,
) -> bytes:
    """The body of a 2xx answer within timeout_s in all; anything else is a CloudError."""
    return _exchange(url, method, data, headers or {}, timeout_s)[1]


def _exchange(
    url: str, method: str, data: bytes | None, headers: dict[str, str], timeout_s: float
) -> tuple[Mapping[str, str], bytes]:
    """As `fetch`, with the headers of the answer."""
    parts = urllib.parse.urlsplit(url)
    connection = _connection(parts, timeout_s)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.connect()
        with _deadline(connection.sock, timeout_s):
            connection.request(method, path, body=data, headers=headers)
            with connection.getresponse() as response:  # which may hold the socket by itself
                body = response.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        cause = str(error) or type(error).__name__
        raise CloudError(0, f"{parts.netloc} does not answer: {cause}") from error
    finally:
        connection.close()
    if len(body) > MAX_BYTES:
        raise CloudError(0, f"{parts.netloc} sends more than {MAX_BYTES >> 20} MiB")
    if not 200 <= response.status < 300:
        said = " ".join(body[:300].decode("utf-8", "replace").split())
        raise CloudError(response.status, f"{parts.netloc} says {response.status}: {said}")
    return response.headers, body


def _connection(parts: urllib.parse.SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=_tls())
    return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes longer than the rest of a call."""
    return ssl.create_default_context()


@contextlib.contextmanager
def _deadline(sock: socket.socket, timeout_s: float) -> Iterator[None]:
    """A socket's own timeout bounds one read: a server that drips a byte a second outlives it."""

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _instance(path: str) -> str:
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    return f"http://{host}/computeMetadata/v1/instance/{path}"


def who_and_when() -> tuple[str, float]:
    """This VM's number, and Unix seconds by the metadata server's clock: ours may be set wrong."""
    headers, number = _exchange(_instance("id"), "GET", None, FLAVOR, 3)
    try:
        at = email.utils.parsedate_to_datetime(headers.get("Date", ""))
    except ValueError as error:
        raise CloudError(0, f"the metadata server gives no time: {error}") from error
    return number.decode("ascii", "replace"), at.timestamp()


def publish(key: str, value: str, *, tries: int = 3, timeout_s: float = 3) -> bool:
    """Write a guest attribute; False, and a line in the log, when it is lost."""
    lost = None
    for _ in range(tries):
        try:
            url = _instance(f"guest-attributes/mayfly/{key}")
            fetch(url, method="PUT", data=value.encode(), headers=FLAVOR, timeout_s=timeout_s)
            return True
        except CloudError as error:
            lost = error
    print(f"could not publish {key}: {lost}", file=sys.stderr, flush=True)
    return False


_token: tuple[str, float] = ("", 0.0)


def token() -> str:
    """An access token of the VM's own service account, kept until a minute before its end."""
    global _token
    if time.monotonic() >= _token[1]:
        answer = fetch(_instance("service-accounts/default/token"), headers=FLAVOR)
        said = json.loads(answer)
        _token = (said["access_token"], time.monotonic() + float(said["expires_in"]) - 60)
    return _token[0]


def _call(url: str, timeout_s: float, tries: int = 4) -> bytes:
    """A GET with our token. What may pass (no answer, 429, 5xx) is tried again, 1, 2, 4 s later."""
    for left in reversed(range(tries)):
        try:
            return fetch(url, headers={"Authorization": f"Bearer {token()}"}, timeout_s=timeout_s)
        except CloudError as error:
            if left == 0 or (300 <= error.status < 500 and error.status != 429):
                raise
            time.sleep(2.0 ** (tries - 1 - left))
    raise AssertionError(tries)


def secret(name: str) -> str:
    """The newest version's text. name: projects/P/secrets/S."""
    base = os.environ.get("GOOGLE_SECRET_MANAGER_CUSTOM_ENDPOINT")
    base = base or "https://secretmanager.googleapis.com/v1/"
    answer = json.loads(_call(f"{base}{name}/versions/latest:access", 20))
    return base64.b64decode(answer["payload"]["data"]).decode()


def _storage(path: str, **query: str) -> str:
    base = os.environ.get("GOOGLE_STORAGE_CUSTOM_ENDPOINT")
    base = base or "https://storage.googleapis.com/storage/v1/"
    return f"{base}{path}?{urllib.parse.urlencode(query)}"


def split_uri(uri: str) -> tuple[str, str]:
    """("bucket", "path/to/object") of a gs:// address, without slashes at its ends."""
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    if scheme != "gs" or not bucket:
        raise CloudError(0, f"{uri!r} is not a gs:// address")
    return bucket, name.strip("/")


def read_object(uri: str, *, timeout_s: float = 30, tries: int = 4) -> bytes | None:
    """A small object's content; None when there is none."""
    bucket, name = split_uri(uri)
    path = f"b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
    try:
        return _call(_storage(path, alt="media"), timeout_s, tries)
    except CloudError as error:
        if error.status == 404:
            return None
        raise


def delete_object(uri: str) -> None:
    """Remove an object, as far as we may; what stays is only untidy."""
    bucket, name = split_uri(uri)
    url = _storage(f"b/{bucket}/o/{urllib.parse.quote(name, safe='')}")
    with contextlib.suppress(CloudError):
        fetch(url, method="DELETE", headers={"Authorization": f"Bearer {token()}"})


def list_objects(uri: str) -> Iterator[dict[str, Any]]:
    """Every object under gs://bucket/folder: `name` (below the folder), `size` (int), `crc32c`,
    `generation`, `metadata` (its own, as it was uploaded)."""
    bucket, folder = split_uri(uri)
    page = ""
    while True:
        query = {"prefix": f"{folder}/", "pageToken": page} if page else {"prefix": f"{folder}/"}
        answer = json.loads(_call(_storage(f"b/{bucket}/o", **query), 60))
        for item in answer.get("items", ()):
            yield {
                "name": item["name"][len(folder) + 1 :],
                "size": int(item["size"]),
                "crc32c": item.get("crc32c"),
                "generation": item["generation"],
                "metadata": item.get("metadata", {}),
            }
        page = answer.get("nextPageToken", "")
        if not page:
            return


def main(argv: list[str]) -> int:
    what, name = argv
    try:
        content = read_object(name) if what == "get" else secret(name).encode()
    except CloudError as error:
        print(error, file=sys.stderr)
        return {403: 5, 404: 4}.get(error.status, 1)
    if content is None:
        print(f"{name} is not there", file=sys.stderr)
        return 4
    sys.stdout.buffer.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
