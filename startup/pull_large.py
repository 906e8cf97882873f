"""The files that are too large for a call of ours: a puller brings them, and we watch it.

A file has its own name in /mnt/mayfly/weights only when it is whole and checked. A puller writes
into /mnt/mayfly/arriving, and compares crc32c before it gives a file its name there.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from startup import paths, pullers, words
from startup.manifest import File

LOOK_S = 0.25
TELL_S = 10.0
STALL_S = 120.0
# What gcloud and gsutil say of a file whose checksum is not the bucket's; both delete it.
MISMATCH = re.compile("does not match destination hash|doesn't match cloud-supplied digest")


class AgainError(Exception):
    """Another try may help."""


class FinalError(Exception):
    """No further try will: words for the user."""


@dataclass(frozen=True)
class Place:
    """Where it comes from and where it goes. pins: name -> generation, of the listing."""

    uri: str
    room: Path
    pins: dict[str, str]

    @property
    def weights(self) -> Path:
        return self.room / "weights"

    @property
    def arriving(self) -> Path:
        return self.room / "arriving"

    def address(self, file: File) -> str:
        return f"{self.uri}/{file.name}#{self.pins[file.name]}"


def seed_again() -> str:
    return f"run: mayfly seed {os.environ.get('MAYFLY_PROFILE', 'PROFILE')}"


def is_shard(file: File) -> bool:
    return file.name.endswith(".safetensors")


def arrived(place: Place, file: File) -> None:
    """Give it its own name."""
    source, target = place.arriving / file.name, place.weights / file.name
    source.chmod(0o644)
    for folder in (target.parent, *target.parent.parents):
        if folder == place.weights:
            break
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    source.replace(target)


def wrong(file: File) -> None:
    """Its content was not the manifest's. Once may be an accident; twice is none."""
    known = paths.run_dir() / "wrong-weights"
    before = paths.read(known).splitlines()
    if file.name in before:
        raise FinalError(f"wrong content twice in a row: {file.name}; {seed_again()}")
    paths.write(known, "\n".join([*before, file.name]))
    print(f"not what the manifest says, pulling again: {file.name}", flush=True)


class Large:
    """The files that a puller brings. `tell` is called while they come."""

    def __init__(
        self,
        place: Place,
        files: list[File],
        tell: Callable[["Large"], None],
        stall_s: float = STALL_S,
    ) -> None:
        self.place, self.todo, self._tell, self._stall_s = place, list(files), tell, stall_s
        self.arrived_bytes = 0
        self._said = paths.log_dir() / "puller.log"

    def run(self) -> None:
        """Every puller once, the best first; AgainError when something is still missing."""
        found = pullers.available()
        if not found:
            raise AgainError("neither gcloud nor gsutil is on this machine yet")
        for puller in found:
            before = len(self.todo)
            self._said.write_bytes(b"")
            for folder in sorted({os.path.dirname(file.name) for file in self.todo}):
                while not self._bring(puller, folder):
                    wait_for_reboot()
            self._name_wrong()
            if not self.todo:
                return
            last = " | ".join(paths.read(self._said).splitlines()[-3:])
            print(f"{puller.name} left {len(self.todo)} files: {last}", flush=True)
            if len(self.todo) < before:
                break  # it works; what broke may pass
        raise AgainError(f"{len(self.todo)} files did not arrive, the first is {self.todo[0].name}")

    def _bring(self, puller: pullers.Puller, folder: str) -> bool:
        """What lies directly in folder. False: stopped, for a reboot is to come."""
        mine = [file for file in self.todo if os.path.dirname(file.name) == folder]
        target = self.place.arriving / folder
        if not puller.goes_on:
            shutil.rmtree(self.place.arriving, ignore_errors=True)
        target.mkdir(parents=True, exist_ok=True)
        addresses = [self.place.address(file) for file in mine]
        with pullers.started(puller, addresses, target, self._said) as process:
            moved, moved_at = -1, time.monotonic()
            while process.poll() is None:
                if reboot_planned():
                    return False
                time.sleep(LOOK_S)
                self._collect()
                if self.moved_bytes() != moved:
                    moved, moved_at = self.moved_bytes(), time.monotonic()
                elif time.monotonic() - moved_at > self._stall_s:
                    print(
                        f"{puller.name} has brought nothing for {self._stall_s:.0f} s", flush=True
                    )
                    break
                self._tell(self)
        self._collect()
        return True

    def _collect(self) -> None:
        """To what a puller has given its name, give it its place: it is whole and right."""
        for file in list(self.todo):
            path = self.place.arriving / file.name
            if path.is_file() and path.stat().st_size == file.size:
                arrived(self.place, file)
                self.todo.remove(file)
                self.arrived_bytes += file.size

    def moved_bytes(self) -> int:
        """Of whole files, and of those on their way."""
        total = self.arrived_bytes
        for path in self.place.arriving.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                if path.is_file():
                    total += path.stat().st_blocks * 512
        return total

    def _name_wrong(self) -> None:
        lines = [line for line in paths.read(self._said).splitlines() if MISMATCH.search(line)]
        for file in self.todo:
            if any(file.name in line for line in lines):
                wrong(file)


def reboot_planned() -> bool:
    """It is certain, and the RAM that we fill will be empty after it."""
    return (paths.run_dir() / "reboot-planned").exists()


def wait_for_reboot() -> None:
    """Until it comes and ends us. A mark that somebody takes away ends the wait as well."""
    print("waiting: the machine will reboot, and RAM does not outlive that", flush=True)
    while reboot_planned():
        time.sleep(LOOK_S)


class Progress:
    """Says every ten seconds how far it is: "12 of 64 shards, 310 MB/s, 4 min left"."""

    def __init__(self, shards: int, expected_bytes: int) -> None:
        self._shards, self._bytes = shards, expected_bytes
        self._began = self._told = time.monotonic()

    def __call__(self, large: Large) -> None:
        now = time.monotonic()
        if now - self._told < TELL_S:
            return
        self._told = now
        there = self._shards - sum(is_shard(file) for file in large.todo)
        moved = large.moved_bytes()
        left = self._bytes - moved
        line = progress_line(f"{there} of {self._shards}", moved / (now - self._began), left)
        print(line, flush=True)
        words.set_message(line)


def progress_line(shards: str, rate: float, left_bytes: float) -> str:
    """shards: "12 of 64". rate: bytes/s."""
    text = f"{shards} shards, {rate / 1e6:.0f} MB/s"
    if rate <= 0:
        return text
    left_s = max(left_bytes, 0) / rate
    return f"{text}, {left_s / 60:.0f} min left" if left_s >= 90 else f"{text}, {left_s:.0f} s left"
