"""Hub -> disk -> bucket: a few files at a time, each checked on the way.

An object carries, as its own metadata, what the hub says its content is and its sha256: who starts
again reads that from the bucket and moves only what is missing. Nothing else remembers.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from startup import cloud, manifest, paths, words
from startup.seed_upload import SeedError, store

TELL_EVERY_S = 5.0
COUNT_EVERY_S = 1.0


@dataclass(frozen=True)
class HubFile:
    """name: in the repository. size: bytes. source: "sha256:<hex>" or "git:<blob id>"."""

    name: str
    size: int
    source: str


@dataclass(frozen=True)
class Job:
    """What to bring where. token: False sends none, whatever lies on this machine.

    token_secret: projects/P/secrets/S, or "" where the foundation names none.
    """

    model: str
    revision: str
    uri: str
    token: str | bool
    token_secret: str
    parallel: int
    room_bytes: int
    work: Path


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
    """Moves the files that are not in the bucket yet, and says how far it is.

    note: what is said after the progress, e.g. that the hub lets us wait.
    """

    def __init__(self, job: Job, files: list[HubFile], fetch: Fetch) -> None:
        self._job, self._files, self._fetch = job, files, fetch
        self._room = Room(job.room_bytes)
        self._entries: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._began = time.monotonic()
        self.note = ""
        self.moved_bytes = 0

    def run(self) -> list[dict[str, Any]]:
        """The manifest's entries of all files, all of them in the bucket. SeedError otherwise."""
        todo = self._not_there()
        largest = max((file.size for file in todo), default=0)
        if largest > self._job.room_bytes:
            raise SeedError(
                f"no room: the largest file has {largest / 1e9:.1f} GB, the disk "
                f"{self._job.room_bytes / 1e9:.1f} GB to spare. Raise seeding.disk_gb in "
                f"profiles/{os.environ.get('MAYFLY_PROFILE', 'PROFILE')}.yaml"
            )
        pool = ThreadPoolExecutor(self._job.parallel)
        # Large ones first: the last to finish is then a small one.
        moves = [pool.submit(self._move, f) for f in sorted(todo, key=lambda f: -f.size)]
        with Ticker(self._job.work, lambda: self._sent_bytes):
            self._await(moves)
        self.tell()
        return [self._entries[file.name] for file in self._files]

    def _await(self, moves: list[Future[None]]) -> None:
        """Until all are done; the first that fails is raised, and nobody waits for the others."""
        left = set(moves)
        while left:
            done, left = wait(left, TELL_EVERY_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            self.tell()

    def _not_there(self) -> list[HubFile]:
        there = {item["name"]: item for item in cloud.list_objects(self._job.uri)}
        for file in self._files:
            item = there.get(file.name)
            known = item["metadata"] if item else {}
            if item and item["size"] == file.size and known.get("source") == file.source:
                self._entries[file.name] = {**item, "sha256": known.get("sha256")}
        if self._entries:
            print(f"{len(self._entries)} of {len(self._files)} files are there already", flush=True)
        return [file for file in self._files if file.name not in self._entries]

    def _move(self, file: HubFile) -> None:
        self._room.take(file.size)
        path, digest = self._download(file)
        known = {"source": file.source, "sha256": digest}
        stored = store(path, f"{self._job.uri}/{file.name}", known, sent=self._count)
        path.unlink()
        self._room.give(file.size)
        entry = {"name": file.name, "size": file.size, "crc32c": stored["crc32c"]}
        with self._lock:
            self._entries[file.name] = {**entry, "sha256": digest}
            self.moved_bytes += file.size

    def _download(self, file: HubFile) -> tuple[Path, str]:
        for again in (False, True):
            path = self._fetch(file, again)
            digest = digest_of(path, file)
            if digest is not None:
                return path, digest
            print(f"{file.name} is not what the hub says it is, once more", flush=True)
            path.unlink()
        raise SeedError(
            f"{file.name} came twice with another content than the hub's hash says. Nothing of it "
            f"was stored. Run again: mayfly seed {os.environ.get('MAYFLY_PROFILE', 'PROFILE')}"
        )

    def _count(self, size: int) -> None:
        with self._lock:
            self._sent_bytes += size

    def tell(self) -> None:
        """How far it is, how fast, how long it still takes."""
        with self._lock:
            entries = list(self._entries.values())
        whole = sum(file.size for file in self._files)
        there = sum(entry["size"] for entry in entries)
        text = (
            f"{len(entries)} of {len(self._files)} files, {there / 1e9:.1f} of {whole / 1e9:.1f} GB"
        )
        rate = self._sent_bytes / max(time.monotonic() - self._began, 0.1)
        if rate > 0:
            left_s = (whole - there) / rate
            text += f", {rate / 1e6:.0f} MB/s, {left_s / 60:.0f} min left"
        words.set_message(f"{text}; {self.note}" if self.note else text)


class Ticker:
    """Writes a number that grows while bytes move: the watchdog's proof of work in progress."""

    def __init__(self, work: Path, sent_bytes: Callable[[], int]) -> None:
        self._work, self._sent_bytes = work, sent_bytes
        self._stop = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        moved, before = 0, (0, 0)
        while not self._stop.wait(COUNT_EVERY_S):
            now = (size_below(self._work), self._sent_bytes())
            if now != before:
                moved += abs(now[0] - before[0]) + now[1] - before[1]
                before = now
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
