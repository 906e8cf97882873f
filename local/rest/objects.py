"""Objects: every call passes here on its way to fake-gcs-server, streamed.

What fake-gcs-server does not do is done here: preconditions on every verb, the position of a
resumable upload, pages of at most 1000, refusals and answers in Google's words and shape.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any
from urllib.parse import quote

from flask import Request, Response, jsonify

from local.rest.backend import (
    Backend,
    download_path,
    object_path,
    read_json,
    stream,
    upload_path,
)
from local.rest.errors import ApiError
from local.rest.identity import Principal
from local.rest.object_rights import Rights
from local.rest.object_shape import (
    base_url,
    conditions,
    incomplete,
    missing,
    object_name,
    odd,
    page_size,
    passed_headers,
    passed_query,
    resource,
)
from local.rest.preconditions import Preconditions
from local.rest.uploads import Chunk, Session, multipart_metadata, parse_metadata
from local.rest.words import words

DOOR_LOCKS = 64
DOWN_HEADERS = words(
    "content-type content-length content-range content-encoding content-disposition "
    "cache-control accept-ranges "
    "etag last-modified x-goog-generation x-goog-hash x-goog-stored-content-length "
    "x-goog-stored-content-encoding"
)


class Objects:
    """The objects of all buckets. `require(bucket)` raises 404 for a bucket that does not exist."""

    def __init__(
        self,
        backend: Backend,
        require: Callable[[str], None],
        check_metadata: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._backend = backend
        self._require = require
        self._check_metadata = check_metadata
        self._sessions: dict[str, Session] = {}
        self._locks = [Lock() for _ in range(DOOR_LOCKS)]

    # -- reading

    def find(self, bucket: str, name: str) -> dict[str, Any] | None:
        """The live object as fake-gcs-server describes it, or None."""
        status, found = self._backend.call("GET", object_path(bucket, name))
        return found if status == 200 else None

    def existing(self, bucket: str, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The live object, if it is the generation that the query names; 404 otherwise."""
        self._require(bucket)
        found = self.find(bucket, name)
        wanted = query.get("generation")
        if found is None or (wanted and wanted != str(found["generation"])):
            raise missing(bucket, name)
        return found

    def get(self, request: Request, bucket: str, name: str) -> Response:
        """Metadata, or with alt=media the content."""
        found = self.existing(bucket, name, request.args)
        conditions(request).check(found, reading=True)
        if request.args.get("alt") == "media":
            return self._download(request, bucket, name)
        return jsonify(resource(found, base_url(request)))

    def media(self, request: Request, bucket: str, name: str) -> Response:
        """The content: /download/... and the XML API's /bucket/object."""
        found = self.existing(bucket, name, request.args)
        conditions(request).check(found, reading=True)
        return self._download(request, bucket, name)

    def _download(self, request: Request, bucket: str, name: str) -> Response:
        headers = {
            key: value
            for key in ("Range", "Accept-Encoding")
            if (value := request.headers.get(key))
        }
        answer = self._backend.send(
            request.method, download_path(bucket, name), {"alt": "media"}, headers, None
        )
        kept = {k: answer.headers[k] for k in DOWN_HEADERS if k in answer.headers}
        kept |= {k: v for k, v in answer.headers.items() if k.lower().startswith("x-goog-meta-")}
        kept["x-goog-metageneration"] = "1"
        kept["x-goog-storage-class"] = "STANDARD"
        return Response(stream(answer), answer.status, kept, direct_passthrough=True)

    def list(self, request: Request, bucket: str) -> Response:
        self._require(bucket)
        keys = "prefix delimiter versions startOffset endOffset includeTrailingDelimiter pageToken"
        query = {k: request.args[k] for k in keys.split() if request.args.get(k)}
        query["maxResults"] = str(page_size(request.args.get("maxResults")))
        status, found = self._backend.call("GET", f"/storage/v1/b/{quote(bucket)}/o", query)
        if status != 200:
            raise odd(status, found)
        found["items"] = [resource(o, base_url(request)) for o in found.get("items") or []]
        return jsonify({k: v for k, v in found.items() if v})

    def fetch(self, bucket: str, name: str, generation: str, into: IO[bytes]) -> dict[str, Any]:
        """Copy an object's content for a service of ours; returns the object, 404 without one."""
        found = self.existing(bucket, name, {"generation": generation})
        answer = self._backend.send("GET", download_path(bucket, name), {"alt": "media"}, {}, None)
        for block in stream(answer):
            into.write(block)
        return found

    # -- writing

    def put(self, bucket: str, name: str, source: Path) -> None:
        """Store a file for one of our own services, whole, as a resumable upload would."""
        query = {"uploadType": "resumable", "name": name}
        metadata = {"name": name, "contentType": "application/octet-stream"}
        status, answer, upstream = self._backend.open_upload(upload_path(bucket), query, metadata)
        if status != 200:
            raise odd(status, answer)
        with source.open("rb") as file:
            sent = self._backend.send(
                "PUT",
                upload_path(bucket),
                {"uploadType": "resumable", "upload_id": upstream},
                {"Content-Length": str(source.stat().st_size)},
                file,
            )
            found = read_json(sent)
        if sent.status != 200:
            raise odd(sent.status, found)

    def insert(self, request: Request, bucket: str, rights: Rights) -> Response:
        """POST /upload/...: media, multipart, or the start of a resumable upload."""
        kind = request.args.get("uploadType") or request.headers.get("X-Goog-Upload-Protocol")
        if kind == "resumable":
            return self._start(request, bucket, rights)
        if kind not in ("media", "multipart"):
            raise ApiError(400, f"Invalid upload type: {kind}.", reason="badRequest")
        body: Any = request.stream
        metadata: dict[str, Any] = {}
        if kind == "multipart":
            metadata, body = multipart_metadata(request.headers.get("Content-Type", ""), body)
            metadata = self._check_metadata(metadata)
        name = object_name(request.args.get("name") or metadata.get("name"))
        with self.writing(bucket, name, conditions(request), rights):
            answer = self._backend.send(
                "POST",
                upload_path(bucket),
                passed_query(request) | {"uploadType": kind, "name": name},
                passed_headers(request),
                body,
            )
            return self._stored(request, answer.status, read_json(answer))

    def _start(self, request: Request, bucket: str, rights: Rights) -> Response:
        metadata = self._check_metadata(parse_metadata(request.get_data()))
        name = object_name(request.args.get("name") or metadata.get("name"))
        wanted = conditions(request)
        with self.writing(bucket, name, wanted, rights):
            pass
        if kind := request.headers.get("X-Upload-Content-Type"):
            metadata.setdefault("contentType", kind)
        query = passed_query(request) | {"uploadType": "resumable", "name": name}
        status, answer, upstream = self._backend.open_upload(upload_path(bucket), query, metadata)
        if status != 200:
            raise odd(status, answer)
        key = "AB" + secrets.token_urlsafe(48)
        self._sessions[key] = Session(bucket, name, wanted, rights, upstream=upstream)
        target = (
            f"{base_url(request)}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
            f"?uploadType=resumable&name={quote(name, safe='')}&upload_id={key}"
        )
        headers = {"Location": target, "X-GUploader-UploadID": key}
        return Response(b"", 200, headers)

    def chunk(self, request: Request) -> Response:
        """PUT of a resumable upload: a chunk, the whole, or the question how far it is."""
        session = self._session(request)
        with session.lock:
            chunk = Chunk.of(request.headers.get("Content-Range", ""), request.content_length)
            if chunk.is_query and chunk.total != session.received:
                return incomplete(request, session)
            if chunk.start is not None and chunk.start != session.received:
                request.get_data()
                if chunk.start > session.received:
                    raise ApiError(503, "Invalid request. Chunks must be sent in order.")
                return incomplete(request, session)
            if not chunk.last:
                return self._more(request, session)
            with self.writing(session.bucket, session.name, session.conditions, session.rights):
                return self._more(request, session)

    def _more(self, request: Request, session: Session) -> Response:
        counted = Counted(request.stream)
        answer = self._backend.send(
            "PUT",
            upload_path(session.bucket),
            {"uploadType": "resumable", "upload_id": session.upstream},
            passed_headers(request),
            counted,
        )
        found = read_json(answer)
        session.received += counted.bytes
        done = answer.status == 200 and "X-Http-Status-Code-Override" not in answer.headers
        if answer.status == 308 or (answer.status == 200 and not done):
            return incomplete(request, session)
        self._sessions.pop(request.args["upload_id"], None)
        return self._stored(request, answer.status, found)

    def cancel(self, request: Request) -> Response:
        """DELETE of a resumable upload."""
        self._session(request)
        self._sessions.pop(request.args["upload_id"], None)
        return Response(b"", 499)

    def uploader(self, request: Request) -> Principal | None:
        """Who began the resumable upload that this request goes on with; None without one."""
        session = self._sessions.get(request.args.get("upload_id", ""))
        return session.rights.caller if session else None

    def _session(self, request: Request) -> Session:
        session = self._sessions.get(request.args.get("upload_id", ""))
        if session is None:
            raise ApiError(404, "Upload session not found.", reason="notFound")
        return session

    def delete(self, request: Request, bucket: str, name: str) -> Response:
        self.existing(bucket, name, request.args)
        with self.changing(bucket, name, conditions(request)):
            status, answer = self._backend.call("DELETE", object_path(bucket, name))
        if status == 404:
            raise missing(bucket, name)
        if status != 200:
            raise odd(status, answer)
        return Response(b"", 204)

    def patch(self, request: Request, bucket: str, name: str) -> Response:
        """PATCH or PUT of an object's metadata."""
        self.existing(bucket, name, request.args)
        body = self._check_metadata(parse_metadata(request.get_data()))
        with self.changing(bucket, name, conditions(request)):
            status, found = self._backend.call(
                request.method, object_path(bucket, name), passed_query(request), body
            )
        return self._stored(request, status, found)

    def copy(
        self,
        request: Request,
        verb: str,
        source: tuple[str, str],
        target: tuple[str, str],
        rights: Rights,
    ) -> Response:
        """rewriteTo and copyTo."""
        self.existing(*source, {"generation": request.args.get("sourceGeneration", "")})
        self._require(target[0])
        object_name(target[1])
        body = self._check_metadata(parse_metadata(request.get_data()))
        path = f"{object_path(*source)}/{verb}{object_path(*target).removeprefix('/storage/v1')}"
        with self.writing(*target, conditions(request), rights):
            status, found = self._backend.call("POST", path, passed_query(request), body)
        if status != 200:
            raise odd(status, found)
        if verb == "rewriteTo":
            found["resource"] = resource(found["resource"], base_url(request))
            return jsonify({k: v for k, v in found.items() if v != ""})
        return self._stored(request, status, found)

    def compose(self, request: Request, bucket: str, name: str, rights: Rights) -> Response:
        object_name(name)
        body = parse_metadata(request.get_data())
        for part in body.get("sourceObjects", []):
            rights.need("get", bucket, part.get("name", ""))
            self.existing(bucket, part.get("name", ""), {"generation": part.get("generation", "")})
        with self.writing(bucket, name, conditions(request), rights):
            path = object_path(bucket, name) + "/compose"
            status, found = self._backend.call("POST", path, passed_query(request), body)
        return self._stored(request, status, found)

    @contextmanager
    def changing(self, bucket: str, name: str, wanted: Preconditions) -> Iterator[None]:
        """Nobody else changes this object meanwhile, and it is as `wanted`; 412 otherwise."""
        with self._locks[hash((bucket, name)) % DOOR_LOCKS]:
            if wanted.any:
                wanted.check(self.find(bucket, name))
            yield

    @contextmanager
    def writing(
        self, bucket: str, name: str, wanted: Preconditions, rights: Rights
    ) -> Iterator[None]:
        """As `changing`, by somebody who may make this object, and replace the one that is there.

        The right to make is asked first, the right to replace after the preconditions: nobody
        replaces anything where those fail.
        """
        rights.need("create", bucket, name)
        with self._locks[hash((bucket, name)) % DOOR_LOCKS]:
            there = self.find(bucket, name)
            wanted.check(there)
            if there is not None:
                rights.need("delete", bucket, name)
            yield

    def _stored(self, request: Request, status: int, found: dict[str, Any]) -> Response:
        if status != 200:
            raise odd(status, found)
        return jsonify(resource(found, base_url(request)))


class Counted:
    """Counts what is read through it."""

    def __init__(self, stream_: Any) -> None:
        self._stream = stream_
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._stream.read(size)
        self.bytes += len(block)
        return block
