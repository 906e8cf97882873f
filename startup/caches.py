"""vLLM's kernel caches as one archive: what a start compiled, for the next one to find.

python3 -m startup.caches pack CACHE_DIR OUT.tar.gz     the caches' files, alike when they are alike
                          unpack IN.tar.gz CACHE_DIR    all of them or nothing; CACHE_DIR was empty
                          uri                           where this VM's caches lie in the bucket:
                                                        the newest there are, or the first to be

Cached kernels are code: an archive is checked against its manifest before it comes here, and
even then it can write plain files below CACHE_DIR and nothing else. Exit 1: why, in one line.
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from startup import cloud

MAX_BYTES = 2 << 30
MAX_FILES = 200_000
BLOCK_BYTES = 1 << 20
FORMS_BYTES = 4096  # a member's headers, at most: name and size records

# Not caches, or of no use to another process: the hub's copy of the model's code, locks, logs.
OTHERS = {"hf", ".config", ".local", "__pycache__", "locks", "lock", "tmp"}
OTHER_NAMES = re.compile(r"\.?tmp[._-].*|.*\.(lock|log|pid|tmp)")

# Flags that no kernel depends on: who may ask and how answers are worded.
TALK = (
    *("--host", "--port", "--served-model-name", "--api-key", "--middleware", "--root-path"),
    *("--allowed-origins", "--allowed-methods", "--allowed-headers", "--allow-credentials"),
    *("--chat-template", "--response-role", "--tool-call-parser", "--enable-auto-tool-choice"),
    *("--reasoning-parser", "--uvicorn-log-level", "--load-format", "--disable-fastapi-docs"),
    *("--enable-prompt-tokens-details", "--enable-server-load-tracking", "--seed"),
)


class CachesError(Exception):
    """Why these caches cannot be used or saved."""


def files_of(folder: Path) -> Iterator[Path]:
    """The plain files worth saving, by name; links and devices are nobody's cache."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in OTHERS or OTHER_NAMES.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files_of(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def pack(folder: Path, archive: Path) -> tuple[int, int]:
    """Write the archive; (files, bytes in them). The same files give the same archive.

    Times of files are kept, in seconds: FlashInfer's builder compares them.
    """
    found = list(files_of(folder)) if folder.is_dir() else []
    total = sum(path.stat().st_size for path in found)
    if not found:
        raise CachesError(f"there are no caches in {folder}")
    if total > MAX_BYTES or len(found) > MAX_FILES:
        raise CachesError(f"{len(found)} files of {total} bytes in all are more than is kept")
    new = archive.with_name(f".{archive.name}.new")
    try:
        with (
            new.open("wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in found:
                _add(tar, path, str(path.relative_to(folder)))
        new.replace(archive)
    finally:
        new.unlink(missing_ok=True)
    return len(found), total


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mtime = before.st_size, int(before.st_mtime)
        info.mode = 0o755 if before.st_mode & 0o100 else 0o644
        tar.addfile(info, file)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CachesError(f"{name} changed while it was packed")


class _Bounded(io.RawIOBase):
    """A stream that ends in an error where it says more than it may: no bomb gets past it."""

    def __init__(self, source: BinaryIO, left: int) -> None:
        self._source, self._left = source, left

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise CachesError(f"it unpacks to more than {MAX_BYTES >> 30} GiB")
        return data


def unpack(archive: Path, folder: Path) -> tuple[int, int]:
    """Fill the folder, which was empty or not there; (files, bytes in them).

    CachesError, and nothing left behind, for anything but plain files below it that fit.
    """
    folder = folder.resolve()  # where systemd keeps it once the unit has run
    if folder.exists() and any(folder.iterdir()):
        raise CachesError(f"{folder} is not empty")
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a boot that was cut off
    try:
        new.mkdir(parents=True)
        with gzip.open(archive) as raw:
            bounded = _Bounded(raw, MAX_BYTES + MAX_FILES * FORMS_BYTES)
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                done = _extract(tar, new)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, zlib.error) as error:
        raise CachesError(f"{archive.name} cannot be unpacked: {error!r}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return done


def _extract(tar: tarfile.TarFile, folder: Path) -> tuple[int, int]:
    count = total = 0
    for member in tar:
        count, total = count + 1, total + member.size
        if count > MAX_FILES or total > MAX_BYTES:
            raise CachesError("it holds more than is kept")
        if not member.isreg() or not _stays_inside(member.name):
            raise CachesError(f"it holds {member.name!r}, which is no plain file below its folder")
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None
        with path.open("xb") as target:
            shutil.copyfileobj(source, target, BLOCK_BYTES)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        os.utime(path, (member.mtime, member.mtime))
    if not count:
        raise CachesError("it is empty")
    return count, total


def _stays_inside(name: str) -> bool:
    return name.isprintable() and all(part not in ("", ".", "..") for part in name.split("/"))


def flags_that_matter(flags: Sequence[str]) -> list[str]:
    """Each `--flag=value`, sorted, without those that change no kernel."""
    joined: list[str] = []
    for word in flags:
        if word.startswith("-") or not joined:
            joined.append(word)
        else:
            joined[-1] += ("=" if "=" not in joined[-1] else " ") + word
    return sorted(flag for flag in joined if flag.partition("=")[0] not in TALK)


def gpu_and_driver() -> tuple[str, str]:
    """As nvidia-smi says; CachesError where the GPUs are not all alike."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    kinds = {tuple(line.split(", ")) for line in said.stdout.splitlines()}
    if said.returncode != 0 or len(kinds) != 1 or len(kind := kinds.pop()) != 2:
        raise CachesError(f"nvidia-smi names no single kind of GPU: {said.stdout.strip()!r}")
    return kind


def uri() -> str:
    """gs:// folder of the newest caches that fit this VM's engine, GPU, driver, model and flags.

    Its last part is their number, from 1: a node may not replace caches that turned out bad, so it
    saves others after them.
    """
    folder = _folder()
    names = (item["name"].split("/") for item in cloud.list_objects(folder))
    complete = [int(n[0]) for n in names if n[1:] == ["manifest.json"] and n[0].isdecimal()]
    return f"{folder}/{max(complete, default=1)}"


def _folder() -> str:
    gpu, driver = gpu_and_driver()
    flags = flags_that_matter(json.loads(os.environ["MAYFLY_SERVE_FLAGS"]))
    same = [os.environ["MAYFLY_MODEL"], os.environ["MAYFLY_REVISION"], *flags]
    digest = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    engine = os.environ["MAYFLY_ENGINE_URI"].rstrip("/").rpartition("/")[2]
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return f"gs://{os.environ['MAYFLY_CACHE_BUCKET']}/kernels/{engine}/{slug}/{driver}/{digest}"


def main(argv: Sequence[str]) -> int:
    what, *rest = argv
    try:
        if what == "uri":
            print(uri())
            return 0
        act = {"pack": pack, "unpack": unpack}[what]
        count, total = act(*map(Path, rest))
        print(f"{what}ed {count} files, {total / 1e6:.1f} MB")
    except (CachesError, cloud.CloudError, OSError, subprocess.SubprocessError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
