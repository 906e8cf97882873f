"""What a storage path names, as sent: an object's name may hold %2F, or two slashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from local.rest.words import words

API = re.compile(r"/(?:storage/)?storage/v1/b/(?P<bucket>[^/]+)/o(?:/(?P<rest>.+))?/?")
UPLOAD = re.compile(
    r"(?:/upload|/resumable/upload)/(?:storage/)?storage/v1/b/(?P<bucket>[^/]+)/o/?"
)
DOWNLOAD = re.compile(r"/download/(?:storage/)?storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>.+)")
COPY = re.compile(r"(?P<name>.+)/(?P<verb>rewriteTo|copyTo)/b/(?P<bucket>[^/]+)/o/(?P<target>.+)")
XML = re.compile(r"/(?P<bucket>[a-z0-9][a-z0-9._-]+)/(?P<name>.+)")
# First segments that belong to others, so cannot be a bucket of the XML API here.
RESERVED = frozenset(
    words(
        "_local _run batch budgets cloudbilling compute crm download functions iam kms quotas run "
        "scheduler secrets serviceusage storage upload"
    )
)


@dataclass(frozen=True)
class Target:
    """kind: "list" "object" "copy" "compose" "upload" "download" "xml"."""

    kind: str
    bucket: str
    name: str = ""
    verb: str = ""
    other: tuple[str, str] = ("", "")


def parse(raw_path: str) -> Target | None:
    """What the path names, or None when it is none of an object's."""
    if found := UPLOAD.fullmatch(raw_path):
        return Target("upload", unquote(found["bucket"]))
    if found := DOWNLOAD.fullmatch(raw_path):
        return Target("download", unquote(found["bucket"]), unquote(found["name"]))
    if found := API.fullmatch(raw_path):
        return _api(unquote(found["bucket"]), found["rest"])
    if raw_path.split("/")[1] in RESERVED:
        return None
    if found := XML.fullmatch(raw_path):
        return Target("xml", unquote(found["bucket"]), unquote(found["name"]))
    return None


def _api(bucket: str, rest: str | None) -> Target:
    if not rest:
        return Target("list", bucket)
    if found := COPY.fullmatch(rest):
        other = (unquote(found["bucket"]), unquote(found["target"]))
        return Target("copy", bucket, unquote(found["name"]), found["verb"], other)
    name, slash, verb = rest.rpartition("/")
    if slash and verb == "compose":
        return Target("compose", bucket, unquote(name))
    return Target("object", bucket, unquote(rest))
