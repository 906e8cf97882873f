"""RuntimeDirectory=, StateDirectory=, CacheDirectory=, LogsDirectory= and LoadCredential=."""

import os
import shutil
from pathlib import Path

from identity import Identity
from units import Unit

BASES = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}


def make(unit: Unit, identity: Identity, key: str) -> list[tuple[Path, Path]]:
    """(the path that a unit knows, where it really lies) of each; the unit's own. Raises OSError.

    With DynamicUser= it lies in a folder `private` that only root may enter, behind a link: the
    next user to be given the same number shall not find it.
    """
    private = unit.flag("DynamicUser") and key != "RuntimeDirectory"
    mode = int(unit.value(f"{key}Mode", "0755"), 8)
    made = []
    for name in unit.words("Service", key):
        plain = Path(BASES[key], name)
        real = _private(Path(BASES[key]), name) if private else plain
        real.mkdir(parents=True, exist_ok=True)
        real.chmod(mode)
        if private and not plain.is_symlink():
            plain.parent.mkdir(parents=True, exist_ok=True)
            plain.symlink_to(os.path.relpath(real, plain.parent))  # what lies there: EEXIST
        _own(real, identity.number)
        made.append((plain, real))
    return made


def _private(base: Path, name: str) -> Path:
    """Where it lies; what an earlier start without DynamicUser=, or root, has left is moved in."""
    plain, real = base / name, base / "private" / name
    (base / "private").mkdir(mode=0o700, exist_ok=True)
    if plain.is_dir() and not plain.is_symlink() and not real.exists():
        real.parent.mkdir(parents=True, exist_ok=True)
        plain.rename(real)
    return real


def _own(top: Path, number: int) -> None:
    """Hand the tree over; as in systemd, not if its top is in the right hands already."""
    if top.stat().st_uid == number:
        return
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            os.lchown(os.path.join(folder, name), number, number)
    os.chown(top, number, number)


def load_credentials(unit: Unit, identity: Identity) -> Path | None:
    """The folder that holds them, readable by the unit alone. Raises OSError."""
    folder = Path("/run/credentials", unit.name)
    shutil.rmtree(folder, ignore_errors=True)
    items = unit.values("Service", "LoadCredential")
    if not items:
        return None
    folder.mkdir(parents=True, mode=0o700)
    for item in items:
        name, _, source = item.partition(":")
        (folder / name).write_bytes(Path(source or name).read_bytes())
        (folder / name).chmod(0o400)
    _own(folder, identity.number)
    return folder
