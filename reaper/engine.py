"""The pulumi CLI and its plugins, unpacked from the state bucket when something is to be destroyed.

Whoever made the bucket put the publishers' own archives there. Each is checked against its sha256
before a byte of it is unpacked; only the one program in it that is needed is.
"""

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud
from mayfly.errors import FailedError

FORMAT = 1
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Archive:
    """A tar.gz in the state bucket, and the one program wanted from it."""

    name: str
    sha256: str
    member: str


def unpack(cloud: Cloud, bucket: str, root: Path) -> Path:
    """Return the folder that holds exactly pulumi and its plugins.

    It is kept under `root` for the next run of the same function instance. FailedError when an
    archive is missing, is not the one that the manifest names, or does not hold its program.
    """
    blob = cloud.storage.get(bucket, names.ENGINE_MANIFEST)
    if blob is None:
        raise FailedError(
            f"gs://{bucket}/{names.ENGINE_MANIFEST} is missing: stacks cannot be destroyed.",
            "VMs are deleted all the same.",
            "Try: pulumi destroy --stack NAME, or put them there (docs/architecture.md)",
        )
    folder = root / hashlib.sha256(blob.data).hexdigest()
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        made = Path(scratch, "bin")
        made.mkdir()
        for archive in _archives(blob.data):
            try:
                _fetch(cloud, bucket, archive, Path(scratch), made)
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                raise FailedError(f"{archive.name} cannot be unpacked: {error}") from error
        _keep(made, folder)
    return folder


def _archives(data: bytes) -> list[Archive]:
    try:
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r} is not {FORMAT}")
        plugins = [
            _archive(found, f"pulumi-resource-{found['name']}") for found in manifest["plugins"]
        ]
        return [_archive(manifest["pulumi"], "pulumi/pulumi"), *plugins]
    except (ValueError, KeyError, TypeError) as error:
        raise FailedError(f"{names.ENGINE_MANIFEST} is not understood: {error!r}") from error


def _archive(entry: Mapping[str, Any], member: str) -> Archive:
    name, sha256 = str(entry["archive"]), str(entry["sha256"])
    for text in (name, member.removeprefix("pulumi/")):
        if not PLAIN_NAME.fullmatch(text):
            raise ValueError(f"{text!r} is not a plain file name")
    if not DIGEST.fullmatch(sha256):
        raise ValueError(f"the sha256 of {name} is {sha256!r}")
    return Archive(name, sha256, member)


def _fetch(cloud: Cloud, bucket: str, archive: Archive, scratch: Path, made: Path) -> None:
    path = scratch / archive.name
    found = cloud.storage.download(bucket, names.ENGINE_PREFIX + archive.name, path)
    if found is None:
        raise FailedError(f"gs://{bucket}/{names.ENGINE_PREFIX}{archive.name} is missing.")
    if found != archive.sha256:
        raise FailedError(
            f"{archive.name} has sha256 {found}, not {archive.sha256}: it is not unpacked."
        )
    _extract(path, archive.member, made)
    path.unlink()  # the function's disk is its memory


def _extract(path: Path, member: str, made: Path) -> None:
    target = made / Path(member).name
    with tarfile.open(path, "r:gz") as tar:
        for entry in tar:
            if entry.isfile() and entry.name.removeprefix("./") == member:
                source = tar.extractfile(entry)
                assert source is not None  # it is a file
                with source, target.open("wb") as program:
                    shutil.copyfileobj(source, program)
                target.chmod(0o755)
                return
    raise FailedError(f"{path.name} does not hold {member}.")


def _keep(made: Path, folder: Path) -> None:
    """Rename whole: half an engine must never be found there."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # another request of this instance was first
            raise
