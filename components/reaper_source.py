"""The reaper's source archive: what is in it, and a name that changes when it does."""

import hashlib
import os
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
FROM_MAYFLY = (
    "__init__.py",
    "claims.py",
    "errors.py",
    "idle.py",
    "ledger.py",
    "locks.py",
    "names.py",
)


def files() -> dict[str, Path]:
    """Path in the archive -> file. The entry point lies at top once more, where Functions looks."""
    packages = [
        *sorted((ROOT / "reaper").rglob("*.py")),
        *sorted((ROOT / "mayfly/cloud").rglob("*.py")),
    ]
    found = {str(path.relative_to(ROOT)): path for path in packages}
    found |= {f"mayfly/{name}": ROOT / "mayfly" / name for name in FROM_MAYFLY}
    found["main.py"] = ROOT / "reaper/main.py"
    found["requirements.txt"] = ROOT / "reaper/requirements.txt"
    return found


def archive() -> pulumi.AssetArchive:
    """The files as an archive, by paths relative to here: state must not hold this machine's."""
    here = Path.cwd()
    return pulumi.AssetArchive(
        {name: pulumi.FileAsset(os.path.relpath(path, here)) for name, path in files().items()}
    )


def object_name() -> str:
    """`reaper-<hash of names and contents>.zip`: Functions redeploys only for another name."""
    digest = hashlib.sha256()
    for name, path in sorted(files().items()):
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return f"reaper-{digest.hexdigest()[:16]}.zip"
