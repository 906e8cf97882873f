"""Commands that are the host's real ones, and only recorded: ldconfig, gcloud, gsutil."""

import os
import shutil
import subprocess

from stub import config, fail

STUB_DIRECTORY = "/.machine/bin"


def main(name: str, argv: list[str]) -> int:
    command = real(name)
    if command is None:
        return fail(f"{name}: command not found", 127)
    return subprocess.run([*command, *argv], check=False).returncode


def real(name: str) -> list[str] | None:
    if name == "gsutil" and config()["gsutil"]:
        return ["python3", config()["gsutil"]]
    folders = os.environ.get("PATH", "").split(":")
    path = ":".join(
        folder for folder in (*folders, "/sbin", "/usr/sbin") if folder != STUB_DIRECTORY
    )
    found = shutil.which(name, path=path)
    return [found] if found else None
