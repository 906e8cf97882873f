"""The engine that the reaper runs: its publishers' archives, held to their checksums."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud
from mayfly.errors import FailedError

PULUMI_VERSION = "3.259.0"
"""The engine whose states our own tests have been destroyed with."""
PLUGINS = ("gcp", "command")
ENVIRONMENT = "MAYFLY_RELEASES"
"""One folder (file:// or http://) that holds all archives and checksum files, for who has no
internet; else each comes from its publisher."""
TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20
MANIFEST_FORMAT = 1
SUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)")


@dataclass(frozen=True, kw_only=True)
class Release:
    """One archive and where it comes from. name: pulumi, or a plugin's."""

    name: str
    version: str
    archive: str
    base: str
    sums_base: str
    sums: str


def releases() -> list[Release]:
    """The engine, then its plugins in the versions that this mayfly is installed with."""
    github = "https://github.com/pulumi/{}/releases/download/v{}"
    engine = Release(
        name="pulumi",
        version=PULUMI_VERSION,
        archive=f"pulumi-v{PULUMI_VERSION}-linux-x64.tar.gz",
        base="https://get.pulumi.com/releases/sdk",
        sums_base=github.format("pulumi", PULUMI_VERSION),
        sums=f"pulumi-{PULUMI_VERSION}-checksums.txt",
    )
    return [engine, *(_plugin(name, github) for name in PLUGINS)]


def _plugin(name: str, github: str) -> Release:
    version = metadata.version(f"pulumi-{name}")
    base = github.format(f"pulumi-{name}", version)
    return Release(
        name=name,
        version=version,
        archive=f"pulumi-resource-{name}-v{version}-linux-amd64.tar.gz",
        base=base,
        sums_base=base,
        sums=f"pulumi-{name}_{version}_checksums.txt",
    )


def complete(cloud: Cloud, bucket: str) -> bool:
    """Whether the bucket's manifest names exactly these releases, and all of them are there."""
    blob = cloud.storage.get(bucket, names.ENGINE_MANIFEST)
    if blob is None:
        return False
    try:
        held = json.loads(blob.data)
        entries = [held["pulumi"] | {"name": "pulumi"}, *held["plugins"]]
        said = {(e["name"], e["version"], e["archive"]) for e in entries}
    except (ValueError, KeyError, TypeError):
        return False
    there = {str(item["name"]) for item in cloud.storage.list(bucket, names.ENGINE_PREFIX)}
    wanted = releases()
    return said == {(r.name, r.version, r.archive) for r in wanted} and there.issuperset(
        names.ENGINE_PREFIX + release.archive for release in wanted
    )


def bring(cloud: Cloud, bucket: str, say: Callable[[str], None]) -> None:
    """Move every archive from its publisher into the bucket; the manifest last.

    FailedError for an archive that is not what its publisher's checksum says: then the bucket's
    manifest is as it was.
    """
    wanted = releases()
    sums: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mayfly-") as folder:
        for release in wanted:
            say(f"  {release.archive}")
            path = Path(folder, release.archive)
            sums[release.name] = fetch(release, path)
            cloud.storage.upload(bucket, names.ENGINE_PREFIX + release.archive, path)
            path.unlink()
    cloud.storage.put(bucket, names.ENGINE_MANIFEST, manifest(wanted, sums))


def manifest(wanted: list[Release], sums: dict[str, str]) -> bytes:
    """engine/manifest.json, as the reaper reads it."""
    entries = [{"version": r.version, "archive": r.archive, "sha256": sums[r.name]} for r in wanted]
    plugins = [{"name": r.name} | e for r, e in zip(wanted[1:], entries[1:], strict=True)]
    found: dict[str, Any] = {"format": MANIFEST_FORMAT, "pulumi": entries[0], "plugins": plugins}
    return (json.dumps(found, indent=2) + "\n").encode()


def fetch(release: Release, path: Path) -> str:
    """Download an archive; returns its sha256, which is the one that its publisher names."""
    folder = os.environ.get(ENVIRONMENT, "").rstrip("/")
    wanted = _published(release, f"{folder or release.sums_base}/{release.sums}")
    url = f"{folder or release.base}/{release.archive}"
    with _open(url) as source, path.open("wb") as target:
        try:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        except OSError as error:
            raise _unreachable(url, error) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise FailedError(
            f"{url} has sha256 {found}; its publisher says {wanted}.",
            "It was not put into the bucket; the reaper's engine is as it was.",
            "Try: mayfly init again; if it stays so, do not trust this download",
        )
    return found


def _published(release: Release, url: str) -> str:
    with _open(url) as source:
        text = source.read().decode(errors="replace")
    for line in text.splitlines():
        found = SUM.fullmatch(line.strip())
        if found and found[2] == release.archive:
            return found[1]
    raise FailedError(
        f"{url} names no sha256 of {release.archive}.",
        "It was not downloaded; the reaper's engine is as it was.",
        "Try: mayfly init again with a newer mayfly",
    )


def _open(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> FailedError:
    reason = getattr(error, "reason", None) or error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"{error.code} {error.reason}"
    return FailedError(
        f"{url} cannot be read: {reason}.",
        "The reaper's engine is as it was; what else was set up stays.",
        f"Try: mayfly init again when this machine is online, or set {ENVIRONMENT} to a folder "
        "that holds the archives",
    )
