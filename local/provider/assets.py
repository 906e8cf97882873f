"""The bytes behind Pulumi assets and archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from .values import ARCHIVE, SIGNATURE, Object

EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first date: the same content gives the same bytes


class UnreadableAssetError(Exception):
    """An asset that the stand-in cannot read."""


def content(value: Object) -> bytes:
    """What an asset or archive holds; archives (and directories) come as a zip file."""
    if value[SIGNATURE] != ARCHIVE:
        return _asset(value)
    if "path" in value and Path(value["path"]).is_file():
        return _file(value["path"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(_entries(value, "")):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return buffer.getvalue()


def _asset(value: Object) -> bytes:
    if "text" in value:
        return str(value["text"]).encode()
    if "path" in value:
        return _file(value["path"])
    raise UnreadableAssetError(f"remote assets are beyond the stand-in: {value.get('uri')}")


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableAssetError(f"failed to open asset file: {error}") from error


def _entries(value: Any, prefix: str) -> list[tuple[str, bytes]]:
    if value[SIGNATURE] != ARCHIVE:
        return [(prefix, _asset(value))]
    if "assets" in value:
        return [
            entry
            for name, inner in value["assets"].items()
            for entry in _entries(inner, f"{prefix}/{name}" if prefix else name)
        ]
    if "path" not in value:
        raise UnreadableAssetError(f"remote archives are beyond the stand-in: {value.get('uri')}")
    root = Path(value["path"])
    if not root.is_dir():
        raise UnreadableAssetError(f"no such archive: {root}")
    files = [path for path in root.rglob("*") if path.is_file()]
    return [
        ("/".join([*([prefix] if prefix else []), *path.relative_to(root).parts]), _file(str(path)))
        for path in files
    ]
