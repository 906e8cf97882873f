"""Where things live on a VM. MAYFLY_ROOT goes before all of it, as DESTDIR would."""

import contextlib
import os
from pathlib import Path


def root() -> Path:
    return Path(os.environ.get("MAYFLY_ROOT") or "/")


def run_dir() -> Path:
    """Of this boot: gone after a reboot."""
    return root() / "run/mayfly"


def state_dir() -> Path:
    """Of this VM's life."""
    return root() / "var/lib/mayfly"


def log_dir() -> Path:
    return root() / "var/log/mayfly"


def read(path: Path) -> str:
    """The file's text without surrounding blanks; "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def write(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old text or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text, "utf-8")
        new.replace(path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
