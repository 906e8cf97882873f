"""When two different texts mean the same thing to the provider (a table's `same`)."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any

IMAGE = re.compile(
    r"^https://www\.googleapis\.com/compute/v1/projects/([^/]+)/global/images/([^/]+)$"
)
VERSION = re.compile(r"/compute/[a-zA-Z0-9]+/projects/")


def relative(link: str) -> str:
    """A self link without host and version; anything else as it is."""
    _, found, rest = link.partition("/projects/")
    return f"projects/{rest}" if found and "://" in link else link


def last(text: str) -> str:
    """The last segment of a path."""
    return text.rstrip("/").rpartition("/")[2]


def as_v1(text: str) -> str:
    """A compute self link as state holds it, whichever version answered."""
    return VERSION.sub("/compute/v1/projects/", text)


def _link(old: str, new: str) -> bool:
    """Equal paths, or a short form of the same thing."""
    old, new = relative(old), relative(new)
    return old == new or old.endswith(f"/{new}") or new.endswith(f"/{old}")


def _family(image: str, family: str) -> bool:
    """Whether an image's name looks like one of the family's: the architecture must end the
    family's name.

    So `...-amd64-with-nvidia-580` is never taken for its own images, and the VM is replaced.
    """
    for architecture in ("-arm64", "-amd64"):
        if architecture in image:
            stem = family.removesuffix(architecture)
            return stem in image and family.endswith(architecture)
    return family in image


def image(old: str, new: str) -> bool:
    """Whether the disk's image (a full link) is what `new` names: that image, or a family of it."""
    match = IMAGE.match(as_v1(old))
    if match is None:
        return False
    project, name = match.groups()
    parts = relative(new).removeprefix("projects/").split("/")
    if len(parts) >= 4 and parts[1:3] == ["global", "images"]:
        if parts[0] != project:
            return False
        return (
            _family(name, parts[4])
            if parts[3] == "family" and len(parts) == 5
            else name == parts[3]
        )
    if parts[0] == "family" and len(parts) == 2:
        return _family(name, parts[1])
    if len(parts) == 2 and parts[0] != project:
        return False
    return name == parts[-1] or _family(name, parts[-1])


def _address(old: str, new: str) -> bool:
    try:
        return ipaddress.ip_interface(old) == ipaddress.ip_interface(new)
    except ValueError:
        return False


def _json(old: str, new: str) -> bool:
    try:
        return bool(json.loads(old) == json.loads(new))
    except ValueError:
        return False


KINDS: dict[str, Callable[[str, str], bool]] = {
    "link": _link,
    "path": lambda old, new: relative(old) == relative(new),
    "name": lambda old, new: last(old) == last(new),
    "case": lambda old, new: old.lower() == new.lower(),
    "image": image,
    "keyver": lambda old, new: old.partition("/cryptoKeyVersions/")[0] == new,
    "keyring": lambda old, new: relative(old) == relative(new),
    "mask": lambda old, new: new.startswith("/") and old.endswith(new),
    "slash": lambda old, new: old.rstrip("/") == new.rstrip("/"),
    "json": _json,
    "ipv6": _address,
    "zero": lambda old, new: (old or "0") == (new or "0"),
    "automatic": lambda old, new: new == "automatic" and old == "",
    "project": lambda old, new: old.removeprefix("projects/") == new.removeprefix("projects/"),
    "always": lambda old, new: True,
}


def equal(kind: str, old: Any, new: Any) -> bool:
    """Whether a change from `old` to `new` is none."""
    if old == new:
        return True
    return bool(kind) and isinstance(old, str) and isinstance(new, str) and KINDS[kind](old, new)
