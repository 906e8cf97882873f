"""Files from one machine to another over a pipe, going on where an earlier copy ended.

Standard library only and Python 3.10: the same text runs on the VM, as `python3 -c`. One end sends,
the other receives. The sender names its files; the receiver says how much of each it has, and the
hash of that; where it is the beginning of the sender's, only the rest travels.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
MODE = 0o777


class BrokenError(Exception):
    """The other end stopped in the middle, or says what it may not."""


def send(path: str, inp: IO[bytes], out: IO[bytes]) -> dict[str, int]:
    """Send a file, or a folder with all that is in it. How many files, and bytes that travelled."""
    root = Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    found = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    files = [
        {
            "path": p.relative_to(root).as_posix() if root.is_dir() else "",
            "size": p.stat().st_size,
            "mode": p.stat().st_mode & MODE,
        }
        for p in found
    ]
    say(out, {"name": root.resolve().name, "folder": root.is_dir(), "files": files})
    told = {"files": len(files), "whole": 0, "continued": 0, "bytes": 0}
    for file, at, had in zip(files, found, hear(inp), strict=True):
        have = int(had["have"])
        offset = have if have and digest(at, have) == had["sha256"] else 0
        told["whole"] += 0 < offset == file["size"]  # of an empty file there is nothing to have
        told["continued"] += 0 < offset < int(str(file["size"]))
        told["bytes"] += int(str(file["size"])) - offset
        say(out, {"offset": offset})
        pour(at, offset, int(str(file["size"])) - offset, out)
    if hear(inp) != "done":
        raise BrokenError("the other end did not say that it has all of it")
    return told


def receive(path: str, inp: IO[bytes], out: IO[bytes]) -> None:
    """Receive what `send` sends: as `path`, or into it where it ends in "/" or takes one file."""
    told = hear(inp)
    root = Path(path or ".").expanduser()
    into = path in ("", ".", "~") or path.endswith("/") or (not told["folder"] and root.is_dir())
    if into:
        root = root / checked(told["name"])
    places = [root / checked(file["path"]) if file["path"] else root for file in told["files"]]
    if told["folder"]:
        root.mkdir(parents=True, exist_ok=True)
    say(out, [had(at, int(file["size"])) for at, file in zip(places, told["files"], strict=True)])
    for at, file in zip(places, told["files"], strict=True):
        offset = int(hear(inp)["offset"])
        at.parent.mkdir(parents=True, exist_ok=True)
        with at.open("r+b" if offset else "wb") as copy:
            copy.seek(offset)
            fill(copy, int(file["size"]) - offset, inp)
            copy.truncate()
        at.chmod(int(file["mode"]) & MODE)
    say(out, "done")


def checked(name: str) -> str:
    """A path below where it is put, whatever the other end says."""
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise BrokenError(f"the other end names {name!r}, which leads out of the folder")
    return name


def had(at: Path, size: int) -> dict[str, Any]:
    """How much of a file is here; one that is longer than the sender's is begun anew."""
    have = at.stat().st_size if at.is_file() else 0
    have = have if have <= size else 0
    return {"have": have, "sha256": digest(at, have) if have else ""}


def digest(at: Path, length: int) -> str:
    """SHA-256 of a file's first bytes."""
    found, left = hashlib.sha256(), length
    with at.open("rb") as file:
        while left and (data := file.read(min(CHUNK, left))):
            found.update(data)
            left -= len(data)
    return found.hexdigest()


def pour(at: Path, offset: int, length: int, out: IO[bytes]) -> None:
    """Exactly so many bytes: what grows meanwhile is sent by the next copy."""
    left = length
    with at.open("rb") as file:
        file.seek(offset)
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                raise BrokenError(f"{at} became shorter while it was sent")
            out.write(data)
            left -= len(data)
    out.flush()


def fill(copy: IO[bytes], length: int, inp: IO[bytes]) -> None:
    left = length
    while left:
        data = inp.read(min(CHUNK, left))
        if not data:
            raise BrokenError("the line broke")
        copy.write(data)
        left -= len(data)


def say(out: IO[bytes], told: object) -> None:
    out.write(json.dumps(told).encode() + b"\n")
    out.flush()


def hear(inp: IO[bytes]) -> Any:
    line = inp.readline()
    if not line.endswith(b"\n"):
        raise BrokenError("the line broke")
    return json.loads(line)


def main(role: str, path: str) -> int:
    """The far end: speaks on its stdin and stdout."""
    os.umask(0o022)
    try:
        way = {"send": send, "receive": receive}[role]
        way(path, sys.stdin.buffer, sys.stdout.buffer)
    except (OSError, BrokenError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
