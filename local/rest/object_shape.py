"""What object calls carry and answer, between Google's clients and fake-gcs-server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Request, Response

from local.rest.errors import ApiError
from local.rest.preconditions import Preconditions
from local.rest.uploads import Session
from local.rest.words import words

PAGE = 1000
KEPT = words(
    "name bucket metageneration contentType contentEncoding contentDisposition "
    "contentLanguage cacheControl "
    "storageClass size md5Hash crc32c timeCreated updated timeStorageClassUpdated "
    "timeDeleted customTime metadata"
)
UP_HEADERS = ("content-type", "content-range", "x-guploader-no-308", "x-goog-upload-command")
UP_HEADERS += ("x-goog-upload-protocol", "content-encoding", "cache-control")


def resource(found: Mapping[str, Any], base: str) -> dict[str, Any]:
    """An object as Google describes it. mediaLink leads to where the caller called."""
    bucket, name, generation = found["bucket"], found["name"], str(found["generation"])
    path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
    out = {k: found[k] for k in KEPT if found.get(k) not in (None, "", {})}
    return out | {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": f"https://www.googleapis.com{path}",
        "mediaLink": f"{base}/download{path}?generation={generation}&alt=media",
        "generation": generation,
        "metageneration": str(found.get("metageneration") or "1"),
        "etag": base64.b64encode(int(generation).to_bytes(8, "big")).decode(),
        "size": str(found.get("size", "0")),
        "timeFinalized": found.get("timeCreated"),
    }


def object_name(name: Any) -> str:
    """A name that Google takes; 400 otherwise."""
    if not isinstance(name, str) or not name:
        raise ApiError(400, "Required", reason="required")
    forbidden = name in (".", "..") or name.startswith(".well-known/acme-challenge/")
    if forbidden or any(c in name for c in "\r\n\0") or len(name.encode()) > 1024:
        raise ApiError(400, f"Invalid object name: '{name}'", reason="invalid")
    return name


def conditions(request: Request) -> Preconditions:
    return Preconditions.of(request.args, request.headers)


def base_url(request: Request) -> str:
    return f"{request.scheme}://{request.host}"


def missing(bucket: str, name: str) -> ApiError:
    return ApiError(404, f"No such object: {bucket}/{name}", reason="notFound")


def page_size(text: str | None) -> int:
    if not text:
        return PAGE
    if not text.isdigit():
        raise ApiError(400, f"Invalid value for maxResults: '{text}'", reason="invalid")
    return min(int(text), PAGE) or PAGE


def passed_query(request: Request) -> dict[str, str]:
    """What fake-gcs-server may see; the preconditions were checked here."""
    dropped = ("alt", "fields", "prettyPrint", "key", "userProject", "projection")
    return {k: v for k, v in request.args.items() if k not in dropped and not k.startswith("if")}


def passed_headers(request: Request) -> dict[str, str]:
    headers = {k: request.headers[k] for k in UP_HEADERS if k in request.headers}
    headers |= {k: v for k, v in request.headers if k.lower().startswith("x-goog-meta-")}
    if request.content_length is not None:
        headers["Content-Length"] = str(request.content_length)
    else:
        headers["Transfer-Encoding"] = "chunked"
    return headers


def incomplete(request: Request, session: Session) -> Response:
    """308: the position is in Range, which is left out when nothing has arrived."""
    response = Response(b"", 308)
    if session.received:
        response.headers["Range"] = f"bytes=0-{session.received - 1}"
    if "X-Guploader-No-308" in request.headers:
        response.status_code = 200
        response.headers["X-Http-Status-Code-Override"] = "308"
    return response


def odd(status: int, answer: Mapping[str, Any]) -> ApiError:
    """fake-gcs-server's own refusal, passed on."""
    error = answer.get("error") or {}
    text = error.get("message") or answer.get("text") or f"storage backend answered {status}"
    return ApiError(status if status >= 400 else 500, str(text))
