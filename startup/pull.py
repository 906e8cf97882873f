"""The weights, bucket -> RAM: one try of what is not there yet; the next goes on where it ended.

python3 -m startup.pull config    the manifest and all files but the shards
                        weights   what is still missing, in the order of the names

Exit 0: all of it is there. 1: another try may help. 3: none will, and why/<stage> says why.

A file has its own name in /mnt/mayfly/weights only when it is whole and checked: a small file by
its sha256, here; a large one by the puller, against the crc32c of that very generation, which the
listing showed to be the manifest's. Nothing is read twice.
"""

import concurrent.futures
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from startup import cloud, manifest, paths
from startup.manifest import File
from startup.pull_large import (
    AgainError,
    FinalError,
    Large,
    Place,
    Progress,
    arrived,
    is_shard,
    seed_again,
    wrong,
)

SMALL_AT_ONCE = 8


def prepare(room: Path, text: str) -> None:
    """The manifest for all to read. What lies there of other weights (a disk keeps it) goes."""
    shown = room / "weights.json"
    if paths.read(shown) != text.strip():
        for folder in (room / "weights", room / "arriving"):
            shutil.rmtree(folder, ignore_errors=True)
        paths.write(shown, text)
        shown.chmod(0o644)  # the engine's user is nobody that we know
    for folder in (room / "weights", room / "arriving"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)


def pins(files: Iterable[File], uri: str) -> dict[str, str]:
    """The generation of each file; FinalError where the bucket is not what was seeded."""
    try:
        there = {item["name"]: item for item in cloud.list_objects(uri)}
    except cloud.CloudError as error:
        if error.status == 403:
            remedy = "may this VM? run: pulumi up --stack foundation"
            raise FinalError(f"could not list {uri}; {remedy} ({error})") from error
        raise AgainError(f"could not list {uri}: {error}") from error
    for line in manifest.differences(files, there):
        raise FinalError(
            f"the weights in the bucket are not what was seeded: {line}; {seed_again()}"
        )
    return {file.name: there[file.name]["generation"] for file in files}


def fetch_small(place: Place, files: list[File]) -> None:
    """By our own calls: a puller needs seconds to start, and the engine waits for these."""

    def fetch(file: File) -> bytes | None:
        return cloud.read_object(f"{place.uri}/{file.name}", timeout_s=60) if file.size else b""

    with concurrent.futures.ThreadPoolExecutor(SMALL_AT_ONCE) as pool:
        contents = pool.map(fetch, files)
        for file in files:
            try:
                data = next(contents) or b""
            except cloud.CloudError as error:
                raise AgainError(f"{file.name}: {error}") from error
            if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
                wrong(file)
                continue
            path = place.arriving / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            arrived(place, file)


def is_small(file: File) -> bool:
    return file.sha256 is not None and not is_shard(file) and file.size <= cloud.MAX_BYTES


def pull(kind: str, uri: str, room: Path) -> None:
    """One try. Returns when all of this kind is there."""
    text = (paths.run_dir() / "weights-manifest.json").read_text("utf-8")
    every = sorted(manifest.parse(text), key=lambda file: file.name)
    files = every if kind == "weights" else [file for file in every if not is_shard(file)]
    prepare(room, text)
    todo = manifest.absent(files, room / "weights")
    if not todo:
        return
    place = Place(uri, room, pins(every, uri))
    try:
        fetch_small(place, [file for file in todo if is_small(file)])
        large = [file for file in todo if not is_small(file)]
        if large:
            told = Progress(sum(map(is_shard, every)), sum(file.size for file in large))
            Large(place, large, told).run()
    finally:
        missing = manifest.absent(files, room / "weights")
        report(sum(f.size for f in todo) - sum(f.size for f in missing))
    if missing:
        raise AgainError(f"{len(missing)} files are missing, the first is {missing[0].name}")
    if kind == "weights":
        shutil.rmtree(place.arriving)


def report(brought: int) -> None:
    """bytes: of this try, added to what the timeline will show of the stage."""
    path = paths.run_dir() / "bytes" / os.environ["MAYFLY_STAGE"]
    paths.write(path, str(int(paths.read(path) or 0) + brought))


def main(argv: list[str]) -> int:
    (kind,) = argv
    # The runner's TERM shall also end the puller, which has a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        pull(kind, os.environ["MAYFLY_WEIGHTS_URI"], paths.root() / "mnt/mayfly")
    except FinalError as error:
        print(error, flush=True)
        paths.write(paths.run_dir() / "why" / os.environ["MAYFLY_STAGE"], f"{error}\n")
        return 3
    except (AgainError, manifest.ManifestError, OSError) as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
