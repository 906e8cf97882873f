"""gsutil: the Cloud SDK's own, or PyPI's in an environment of its own."""

import os
import shutil
from pathlib import Path

from tools import uv
from tools.store import Slot


def find() -> Path:
    """gsutil's script. Not the SDK's wrapper: that one waits minutes for credentials."""
    slot = Slot("gsutil", uv.locked_version("gsutil"))
    return _from_sdk() or slot.fill(_install, "some 20 s from PyPI")


def _from_sdk() -> Path | None:
    for program in ("gcloud", "gsutil"):
        found = shutil.which(program)
        if found:
            script = Path(found).resolve().parent.parent / "platform/gsutil/gsutil"
            if os.access(script, os.X_OK):
                return script
    return None


def _install(folder: Path) -> None:
    """A venv names its own path, so it is made in place; the link to it, last, says it is whole."""
    home = folder.parent / f"venv-{uv.locked_version('gsutil')}"
    uv.venv(uv.find(), home, uv.LOCKS / "gsutil.lock")
    os.symlink(home / "bin/gsutil", folder / "gsutil")
