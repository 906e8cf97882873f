"""manifest.json: what is complete in a bucket folder, and whether a local copy is that.

python3 -m startup.manifest total MANIFEST         bytes in all
                            names MANIFEST         its files, one a line
                            absent MANIFEST DIR    folder<TAB>file for each not there in full size
                            wrong MANIFEST DIR     files whose content differs, one a line; exit 1
                            changed MANIFEST URI   objects that are no longer what it says; exit 1
                            make DIR URI SOURCE    a manifest of DIR's files as they lie at URI

A malformed manifest is an error that names what is wrong with it.
"""

import base64
import concurrent.futures
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from startup import cloud, words

BLOCK_BYTES = 4 << 20


class ManifestError(Exception):
    """What is wrong with the manifest itself."""


@dataclass(frozen=True)
class File:
    """name: relative, below the manifest's folder. size: bytes. sha256: hex."""

    name: str
    size: int
    crc32c: str
    sha256: str | None


def parse(text: str) -> list[File]:
    """The files, none of which can lie outside its folder; ManifestError for anything malformed."""
    try:
        said = json.loads(text)
        rows = said["files"]
        found = [File(r["name"], r["size"], r["crc32c"], r["sha256"]) for r in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"not a manifest: {error!r}") from error
    if said.get("format") != 1 or not found:
        raise ManifestError(f"format {said.get('format')!r} with {len(found)} files")
    for file in found:
        if not _is_sound(file):
            raise ManifestError(f"cannot use the entry of {file.name!r}")
    if len({file.name for file in found}) != len(found):
        raise ManifestError("a file is named twice")
    return found


def _is_sound(file: File) -> bool:
    try:
        parts = file.name.split("/")
        safe = all(re.fullmatch(r"[A-Za-z0-9 ._+=@,()\[\]-]+", p) for p in parts)
        return (
            safe
            and not {".", ".."} & set(parts)
            and type(file.size) is int
            and file.size >= 0
            and len(base64.b64decode(file.crc32c, validate=True)) == 4
            and (file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256) is not None)
        )
    except (AttributeError, TypeError, ValueError):
        return False


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def absent(files: list[File], folder: Path) -> list[File]:
    """The files that are not there with their full size."""
    return [f for f in files if _size(folder / f.name) != f.size]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def wrong(files: list[File], folder: Path) -> list[str]:
    """Names whose local content is not the manifest's: absent, of another size or sha256.

    A file without a sha256 (not one of ours) is held to its size; gsutil checked its crc32c on
    the way. Reads on all cores: 595 GB in RAM are some ten seconds on 200 of them.
    """

    def bad(file: File) -> bool:
        path = folder / file.name
        if _size(path) != file.size:
            return True
        return file.sha256 is not None and sha256(path) != file.sha256

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [f.name for f, is_bad in zip(files, pool.map(bad, files), strict=True) if is_bad]


def changed(files: list[File], uri: str) -> Iterator[str]:
    """One line for each object that is not, or is no longer, what the manifest says."""
    yield from differences(files, {item["name"]: item for item in cloud.list_objects(uri)})


def differences(files: Iterable[File], there: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same for a listing that is at hand: name -> what `cloud.list_objects` says of it."""
    for file in files:
        item = there.get(file.name)
        if item is None:
            yield f"{file.name} is missing"
        elif item["size"] != file.size:
            yield f"{file.name} has {item['size']} bytes, the manifest says {file.size}"
        elif item["crc32c"] != file.crc32c:
            yield f"{file.name} has crc32c {item['crc32c']}, the manifest says {file.crc32c}"


def whole(files: Iterable[Mapping[str, object]], source: str) -> str:
    """The text of a manifest. files: name, size, crc32c and sha256 of each; more is left out."""
    keys = ("name", "size", "crc32c", "sha256")
    rows = sorted(
        ({key: file[key] for key in keys} for file in files), key=lambda row: str(row["name"])
    )
    created = words.rfc3339(int(time.time()))
    said = {"format": 1, "source": source, "created": created, "files": rows}
    return json.dumps(said, indent=1) + "\n"


def make(folder: Path, uri: str, source: str) -> str:
    """The manifest of a folder whose files lie at uri, with the bucket's own crc32c.

    An object that is missing or of another size is a ManifestError.
    """
    there = {item["name"]: item for item in cloud.list_objects(uri)}
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        item = there.get(name)
        if item is None or item["size"] != _size(path):
            raise ManifestError(f"{uri}/{name} did not arrive whole")
        rows.append({**item, "sha256": sha256(path)})
    return whole(rows, source)


def main(argv: list[str]) -> int:
    what, first, *rest = argv
    try:
        if what == "make":
            print(make(Path(first), *rest), end="")
            return 0
        files = parse(Path(first).read_text("utf-8"))
        if what == "total":
            print(sum(file.size for file in files))
            return 0
        if what == "names":
            print(*(file.name for file in files), sep="\n")
            return 0
        if what == "absent":
            for file in absent(files, Path(rest[0])):
                print(*os.path.split(file.name), sep="\t")
            return 0
        lines = wrong(files, Path(rest[0])) if what == "wrong" else list(changed(files, rest[0]))
    except (ManifestError, cloud.CloudError, OSError) as error:
        print(error, file=sys.stderr)
        return 3
    print(*lines, sep="\n" if lines else "", end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
