"""Hub -> disk -> bucket: a few downloads at a time, uploads in batches, each file checked between.

gsutil takes seconds to start, so one call carries all the files that are waiting. After each batch
manifest.partial.json (a manifest of what is there, plus the hub's hash) goes along with the next:
who starts again moves only what its size and crc32c, or the hub's hash, say is not there.
"""

import hashlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from startup import cloud, manifest, paths, words

PARTIAL = "manifest.partial.json"
UPLOAD_TRIES = 4
TELL_EVERY_S = 5.0
COUNT_EVERY_S = 1.0


class SeedError(Exception):
    """Why it cannot go on, in words for the user: what, and what to do."""


@dataclass(frozen=True)
class HubFile:
    """name: in the repository. size: bytes. source: "sha256:<hex>" or "git:<blob id>"."""

    name: str
    size: int
    source: str


@dataclass(frozen=True)
class Job:
    """What to bring where. token: False sends none, whatever lies on this machine."""

    model: str
    revision: str
    uri: str
    token: str | bool
    parallel: int
    room_bytes: int
    work: Path


@dataclass(frozen=True)
class Arrived:
    """A file on the disk with the hub's content. sha256: hex."""

    file: HubFile
    path: Path
    sha256: str


Fetch = Callable[[HubFile, bool], Path]
"""(file, from scratch?) -> where it lies on the disk."""


class Room:
    """Bytes of disk that downloads may take together; each waits until its own fit."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size

    def give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


def digest_of(path: Path, file: HubFile) -> str | None:
    """The file's sha256; None when its content is not what the hub says."""
    if path.stat().st_size != file.size:
        return None
    digest = manifest.sha256(path)
    kind, _, wanted = file.source.partition(":")
    if kind == "sha256":
        return digest if digest == wanted else None
    # What is not in LFS is small, and git hashes it with a header.
    blob = hashlib.sha1(f"blob {file.size}\0".encode() + path.read_bytes())
    return digest if blob.hexdigest() == wanted else None


class Transfer:
    """Moves the files that are not in the bucket yet, and says how far it is."""

    def __init__(self, job: Job, files: list[HubFile], fetch: Fetch) -> None:
        self._job, self._files, self._fetch = job, files, fetch
        self._room = Room(job.room_bytes)
        self._arrived: queue.Queue[Arrived | None] = queue.Queue()
        self._entries: dict[str, dict[str, Any]] = {}
        self._began = self._told = time.monotonic()
        self.moved_bytes = 0

    def run(self) -> list[dict[str, Any]]:
        """The manifest's entries of all files, all of them in the bucket. SeedError otherwise."""
        todo = self._not_there()
        largest = max((file.size for file in todo), default=0)
        if largest > self._job.room_bytes:
            raise SeedError(
                f"no room: the largest file has {largest / 1e9:.1f} GB, the disk "
                f"{self._job.room_bytes / 1e9:.1f} GB to spare; raise seeding.disk_gb"
            )
        pool = ThreadPoolExecutor(self._job.parallel + 1)
        uploads = pool.submit(self._upload_batches)
        # Large ones first: the last to finish is then a small one.
        order = sorted(todo, key=lambda file: -file.size)
        downloads = [pool.submit(self._download, file) for file in order]
        with Ticker(self._job.work):
            self._await(downloads, uploads)
            self._arrived.put(None)
            self._await([uploads], uploads)
        self._tell()
        pool.shutdown()
        return [self._entries[file.name] for file in self._files]

    def _await(self, futures: list[Future[None]], uploads: Future[None]) -> None:
        """Until these are done; whatever fails first, also the uploads, is raised."""
        left = set(futures)
        while left:
            # Not FIRST_EXCEPTION: it would wait for the uploads too, which end after the downloads.
            done, _ = wait({*left, uploads}, TELL_EVERY_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            left -= done
            if time.monotonic() - self._told >= TELL_EVERY_S:
                self._tell()

    def _not_there(self) -> list[HubFile]:
        known = {entry.get("name"): entry for entry in self._partial()}
        there = {item["name"]: item for item in cloud.list_objects(self._job.uri)}
        todo = []
        for file in self._files:
            entry, item = known.get(file.name), there.get(file.name)
            if entry and item and entry.get("source") == file.source and _same(entry, item):
                self._entries[file.name] = entry
            else:
                todo.append(file)
        if len(todo) < len(self._files):
            print(f"{len(self._files) - len(todo)} of {len(self._files)} files are there already")
        return todo

    def _partial(self) -> Iterable[dict[str, Any]]:
        text = cloud.read_object(f"{self._job.uri}/{PARTIAL}")
        try:
            return [dict(entry) for entry in json.loads(text)["files"]] if text else []
        except (ValueError, TypeError, KeyError):
            return []  # as if there were none: only time is lost

    def _download(self, file: HubFile) -> None:
        self._room.take(file.size)
        for again in (False, True):
            path = self._fetch(file, again)
            digest = digest_of(path, file)
            if digest is not None:
                self._arrived.put(Arrived(file, path, digest))
                return
            print(f"{file.name} is not what the hub says it is, once more", flush=True)
            path.unlink()
        raise SeedError(f"{file.name} came twice with another content than the hub's hash")

    def _upload_batches(self) -> None:
        more = True
        while more:
            batch = [self._arrived.get()]
            while not self._arrived.empty():
                batch.append(self._arrived.get())
            more = None not in batch
            self._upload([arrived for arrived in batch if arrived is not None])

    def _upload(self, batch: list[Arrived]) -> None:
        if not batch:
            return
        partial = self._job.work / PARTIAL  # of the batches before this one
        mine = [arrived.path for arrived in batch]
        upload([*mine, partial] if partial.exists() else mine, self._job.work, self._job.uri)
        there = {item["name"]: item for item in cloud.list_objects(self._job.uri)}
        for arrived in batch:
            file = arrived.file
            item = there.get(file.name)
            if item is None or item["size"] != file.size:
                raise SeedError(f"{self._job.uri}/{file.name} did not arrive whole; seed again")
            self._entries[file.name] = {
                "name": file.name,
                "size": file.size,
                "crc32c": item["crc32c"],
                "sha256": arrived.sha256,
                "source": file.source,
            }
            self.moved_bytes += file.size
            arrived.path.unlink()
            self._room.give(file.size)
        partial.write_text(json.dumps({"files": list(self._entries.values())}))

    def _tell(self) -> None:
        self._told = time.monotonic()
        sizes = sum(file.size for file in self._files)
        entries = list(self._entries.values())
        there = sum(entry["size"] for entry in entries)
        rate = self.moved_bytes / max(self._told - self._began, 0.1)
        text = f"{len(entries)} of {len(self._files)} files"
        if rate > 0:
            text += f", {rate / 1e6:.0f} MB/s, {(sizes - there) / rate / 60:.0f} min left"
        words.set_message(text)


def _same(entry: dict[str, Any], item: dict[str, Any]) -> bool:
    return all(entry.get(key) == item[key] for key in ("size", "crc32c"))


def upload(files: list[Path], base: Path, uri: str) -> None:
    """Files below base to the same names below uri, one gsutil a folder. SeedError: why not."""
    folders: dict[str, list[str]] = {}
    for path in files:
        folder = os.path.dirname(str(path.relative_to(base)))
        folders.setdefault(folder, []).append(str(path))
    for folder, names in folders.items():
        _gsutil(["-m", "cp", "-I", f"{uri}/{folder}/" if folder else f"{uri}/"], names, uri)


def _gsutil(words_of_call: list[str], names: list[str], uri: str) -> None:
    command = ["gsutil", "-q", "-o", f"GSUtil:state_dir={paths.state_dir()}/gsutil"]
    said = ""
    for left in reversed(range(UPLOAD_TRIES)):
        done = subprocess.run(
            [*command, *words_of_call],
            input="\n".join([*names, ""]),
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["gsutil said nothing"])[-1]
        if "403" in said or "AccessDenied" in said:
            raise SeedError(
                f"no right to write {uri}: the seeder needs objectAdmin on the bucket; "
                "run: pulumi up --stack foundation"
            )
        if left:
            time.sleep(2.0 ** (UPLOAD_TRIES - left))
    raise SeedError(f"could not upload to {uri}: {said}")


class Ticker:
    """Writes a number that grows while bytes arrive: the watchdog's proof of work in progress."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._stop = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        moved = before = 0
        while not self._stop.wait(COUNT_EVERY_S):
            now = size_below(self._work)
            if now != before:
                moved, before = moved + abs(now - before), now
                paths.write(paths.run_dir() / "progress", str(moved))


def size_below(folder: Path) -> int:
    """Bytes on the disk below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                # Blocks, not length: a downloader may set the length first.
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
    return total
