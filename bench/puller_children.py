"""The pullers of bench/pullers.py that are no program of their own: a process each, all the same.

`python bench/puller_children.py HOW PORT CA FOLDER`, with gs:// addresses on stdin.
"""

import base64
import concurrent.futures
import functools
import http.client
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 20
RANGE_BYTES = 16 << 20


def blobs(port: int) -> list[Any]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="bench",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": f"https://127.0.0.1:{port}"},
    )
    return [client.bucket("bench").get_blob(name) for name in asked_names()]


def asked_names() -> list[str]:
    return [line.strip().removeprefix("gs://bench/") for line in sys.stdin if line.strip()]


def transfer_many(port: int, ca: Path, folder: Path) -> None:
    from google.cloud.storage import transfer_manager

    pairs = [(blob, str(folder / blob.name)) for blob in blobs(port)]
    transfer_manager.download_many(
        pairs,
        max_workers=workers(),
        worker_type=transfer_manager.PROCESS,
        raise_exception=True,
        download_kwargs={"checksum": "crc32c"},
    )


def transfer_chunks(port: int, ca: Path, folder: Path) -> None:
    from google.cloud.storage import transfer_manager

    for blob in blobs(port):
        transfer_manager.download_chunks_concurrently(
            blob, str(folder / blob.name), chunk_size=RANGE_BYTES, max_workers=workers()
        )


def workers() -> int:
    return max(4, os.cpu_count() or 4)


def curl_ranges(port: int, ca: Path, folder: Path) -> None:
    """All ranges of all files by one curl, then joined, then held to the bucket's crc32c."""
    lines = ["parallel", "parallel-max = 16"]
    found = {}
    for name in asked_names():
        found[name] = described(port, ca, name)
        for part, start in enumerate(range(0, int(found[name]["size"]), RANGE_BYTES)):
            lines += [f'url = "https://127.0.0.1:{port}{media(name)}"']
            lines += [f'output = "{folder / name}.{part:03}"']
            lines += [f"range = {start}-{start + RANGE_BYTES - 1}"]
            lines += [f'cacert = "{ca}"', "silent", "show-error", "fail", "http1.1", "next"]
    subprocess.run(["curl", "-K", "-"], input="\n".join(lines[:-1]), text=True, check=True)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        sums = pool.map(functools.partial(join, folder), found)
        for name, crc in zip(found, sums, strict=True):
            if crc != found[name]["crc32c"]:
                raise SystemExit(f"{name} is not what the bucket has")


def join(folder: Path, name: str) -> str:
    import google_crc32c

    crc = 0
    with (folder / name).open("wb") as whole:
        for part in sorted(folder.glob(f"{name}.*")):
            with part.open("rb") as source:
                while block := source.read(BLOCK_BYTES):
                    crc = google_crc32c.extend(crc, block)
                    whole.write(block)
            part.unlink()
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def own(port: int, ca: Path, folder: Path) -> None:
    """The least that Python can do: http.client, one buffer a process, crc32c of each block."""
    names = asked_names()
    with concurrent.futures.ProcessPoolExecutor(workers()) as pool:
        list(pool.map(functools.partial(own_file, port, ca, folder), names))


def own_file(port: int, ca: Path, folder: Path, name: str) -> None:
    import google_crc32c

    wanted = described(port, ca, name)["crc32c"]
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    connection.request("GET", media(name))
    response = connection.getresponse()
    crc, buffer = 0, bytearray(BLOCK_BYTES)
    with (folder / name).open("wb", buffering=0) as file:
        while count := response.readinto(buffer):
            block = memoryview(buffer)[:count]
            crc = google_crc32c.extend(crc, bytes(block))
            file.write(block)
    if base64.b64encode(crc.to_bytes(4, "big")).decode() != wanted:
        raise SystemExit(f"{name} is not what the bucket has")


def described(port: int, ca: Path, name: str) -> dict[str, str]:
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    connection.request("GET", f"/storage/v1/b/bench/o/{name}")
    answer: dict[str, str] = json.loads(connection.getresponse().read())
    return answer


def media(name: str) -> str:
    return f"/storage/v1/b/bench/o/{name}?alt=media"


CHILDREN = {
    "many": transfer_many,
    "chunks": transfer_chunks,
    "curl": curl_ranges,
    "own": own,
}


if __name__ == "__main__":
    how, port, ca, folder = sys.argv[1:]
    CHILDREN[how](int(port), Path(ca), Path(folder))
