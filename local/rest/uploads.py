"""Uploads on their way through: the metadata in front of a body, and resumable sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import IO, Any

from local.rest.backend import BLOCK_BYTES
from local.rest.errors import ApiError
from local.rest.object_rights import Rights
from local.rest.preconditions import Preconditions

METADATA_LIMIT_BYTES = 1024 * 1024
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Replay:
    """A request body whose head was read already: reads as if it had not been."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if self._head:
            cut = len(self._head) if size < 0 else size
            piece, self._head = self._head[:cut], self._head[cut:]
            return piece
        return self._rest.read(size)

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK_BYTES):
            yield block


def multipart_metadata(content_type: str, body: IO[bytes]) -> tuple[dict[str, Any], Replay]:
    """The JSON part of a multipart/related upload, and the whole body to send on."""
    found = re.search(r"boundary=(?:\"([^\"]+)\"|'([^']+)'|([^;]+))", content_type)
    if not found:
        raise ApiError(400, "Missing boundary in multipart body.", reason="badContent")
    boundary = b"--" + next(g for g in found.groups() if g).strip().encode()
    head = b""
    while head.count(boundary) < 2:
        block = body.read(BLOCK_BYTES)
        head += block
        if not block or len(head) > METADATA_LIMIT_BYTES:
            break
    part = head.split(boundary, 2)[1] if head.count(boundary) >= 2 else b""
    _, _, text = part.replace(b"\r\n", b"\n").partition(b"\n\n")
    return parse_metadata(text), Replay(head, body)


def parse_metadata(text: bytes) -> dict[str, Any]:
    """The object resource sent with an upload; 400 when it is no JSON object."""
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        raise ApiError(400, "Parse Error", reason="parseError") from None
    if not isinstance(found, dict):
        raise ApiError(400, "Parse Error", reason="parseError")
    return found


@dataclass
class Session:
    """One resumable upload under way, with the rights of whoever began it: its address is the key.

    upstream: its id at fake-gcs-server.
    """

    bucket: str
    name: str
    conditions: Preconditions
    rights: Rights
    upstream: str
    received: int = 0
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class Chunk:
    """What a Content-Range says. None = not known."""

    start: int | None
    end: int | None
    total: int | None

    @classmethod
    def of(cls, header: str, length: int | None) -> Chunk:
        """`length`: of the body; without a header the body is the whole object."""
        if not header:
            return cls(0, length - 1 if length else None, length)
        found = CONTENT_RANGE.fullmatch(header.strip())
        if not found:
            raise ApiError(400, f"Invalid Content-Range: {header}", reason="badRequest")
        start, end, total = found.groups()
        return cls(
            int(start) if start else None,
            int(end) if end else None,
            None if total == "*" else int(total),
        )

    @property
    def is_query(self) -> bool:
        """Carries no data: asks how far the upload is, or says that it is complete."""
        return self.start is None

    @property
    def last(self) -> bool:
        return self.total is not None and (self.end is None or self.end + 1 >= self.total)
