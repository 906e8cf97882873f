"""What the user did before: the state bucket and the reaper's engine in it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.exports import PLUGINS, write_plugin
from local.rest.storage import Buckets
from local.tools_found import PULUMI_VERSION, cache_dir

REGION = "us-central1"
BLOCK_BYTES = 1024 * 1024
PLUGIN_VERSIONS = {"gcp": "10.2.0", "command": "1.2.1"}


@dataclass(frozen=True)
class Release:
    """An archive as its publisher offers it."""

    name: str
    version: str
    archive: Path
    sha256: str


def publish(engine: Path, folder: Path) -> list[Release]:
    """The engine and its plugins in `folder`, under their publishers' names, with checksum files.

    The engine comes first.
    """
    version = PULUMI_VERSION.removeprefix("v")
    packed, digest = engine_archive(engine)
    archive = folder / f"pulumi-v{version}-linux-x64.tar.gz"
    archive.symlink_to(packed)
    found = [Release("pulumi", version, archive, digest)]
    write_sums(folder / f"pulumi-{version}-checksums.txt", found[0])
    for name in PLUGINS:
        made = plugin(name, folder)
        found.append(made)
        write_sums(folder / f"pulumi-{name}_{made.version}_checksums.txt", made)
    return found


def plugin(name: str, folder: Path) -> Release:
    """A provider stand-in, packed as its publisher packs the real one."""
    version = PLUGIN_VERSIONS[name]
    packed, digest = plugin_archive(name, folder)
    (folder / f"pulumi-resource-{name}").unlink()
    held = f"pulumi-resource-{name}-v{version}-linux-amd64.tar.gz"
    return Release(name, version, packed.rename(folder / held), digest)


def write_sums(path: Path, release: Release) -> None:
    """Among others, as in a publisher's own file."""
    other = hashlib.sha256(b"").hexdigest()
    path.write_text(
        f"{other}  {release.archive.name.replace('linux', 'darwin')}\n"
        f"{release.sha256}  {release.archive.name}\n"
    )


def create(buckets: Buckets, project: str, releases: list[Release]) -> None:
    """Make the bucket and put engine/manifest.json and its archives there."""
    bucket = f"{project}-mayfly-state"
    buckets.create(
        {
            "name": bucket,
            "location": REGION,
            "versioning": {"enabled": True},
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": True},
                "publicAccessPrevention": "enforced",
            },
        }
    )
    engine, *plugins = releases
    for release in releases:
        buckets.objects.put(bucket, f"engine/{release.archive.name}", release.archive)
    manifest = {
        "format": 1,
        "pulumi": described(engine),
        "plugins": [{"name": plugin.name} | described(plugin) for plugin in plugins],
    }
    with tempfile.NamedTemporaryFile("w+", suffix=".json") as written:
        written.write(json.dumps(manifest, indent=2) + "\n")
        written.flush()
        buckets.objects.put(bucket, "engine/manifest.json", Path(written.name))


def described(release: Release) -> dict[str, str]:
    return {
        "version": release.version,
        "archive": release.archive.name,
        "sha256": release.sha256,
    }


def engine_archive(engine: Path) -> tuple[Path, str]:
    """The engine as its publisher packs it, and its sha256; packed once per build of the engine."""
    stat = engine.stat()
    key = hashlib.sha256(f"{engine}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_dir() / "engine-archives"
    archive, noted = folder / f"pulumi-{key}.tar.gz", folder / f"pulumi-{key}.sha256"
    if not noted.exists() or not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("pulumi-*"):
            if old.stat().st_mtime < stat.st_mtime:
                old.unlink(missing_ok=True)
        digest = _into_place(archive, lambda file: _pack(file, "pulumi/pulumi", engine))
        _into_place(noted, lambda file: bool(file.write(digest.encode())))
    return archive, noted.read_text()


def plugin_archive(name: str, scratch: Path) -> tuple[Path, str]:
    """A provider stand-in, packed as its publisher packs the real one; and its sha256."""
    program = scratch / f"pulumi-resource-{name}"
    write_plugin(program, name)
    archive = scratch / f"{program.name}.tar.gz"
    return archive, _into_place(archive, lambda file: _pack(file, program.name, program))


def _pack(file: Any, name: str, program: Path) -> None:
    with (
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
        program.open("rb") as source,
    ):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        archive.addfile(entry, source)


def _into_place(target: Path, write: Callable[[Any], Any]) -> str:
    """Write beside `target`, then rename: nobody ever sees half a file. Returns its sha256."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return digest
