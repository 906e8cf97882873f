"""What the user did before: the state bucket and the reaper's engine in it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.exports import PLUGINS, write_plugin
from local.rest.storage import Buckets
from local.tools_found import PULUMI_VERSION, cache_dir

REGION = "us-central1"
BLOCK_BYTES = 1024 * 1024
PLUGIN_VERSIONS = {"gcp": "10.2.0", "command": "1.2.1"}


def create(buckets: Buckets, project: str, engine: Path, scratch: Path) -> None:
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
    archive, digest = engine_archive(engine)
    version = PULUMI_VERSION.removeprefix("v")
    name = f"pulumi-v{version}-linux-x64.tar.gz"
    _put(buckets, bucket, f"engine/{name}", archive)
    plugins = []
    for plugin in PLUGINS:
        made, sha256 = plugin_archive(plugin, scratch)
        held = f"pulumi-resource-{plugin}-v{PLUGIN_VERSIONS[plugin]}-linux-amd64.tar.gz"
        _put(buckets, bucket, f"engine/{held}", made)
        plugins.append(
            {
                "name": plugin,
                "version": PLUGIN_VERSIONS[plugin],
                "archive": held,
                "sha256": sha256,
            }
        )
    manifest = {
        "format": 1,
        "pulumi": {"version": version, "archive": name, "sha256": digest},
        "plugins": plugins,
    }
    written = scratch / "manifest.json"
    written.write_text(json.dumps(manifest, indent=2) + "\n")
    _put(buckets, bucket, "engine/manifest.json", written)


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


def _put(buckets: Buckets, bucket: str, name: str, source: Path) -> None:
    buckets.objects.put(bucket, name, source)
