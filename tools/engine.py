"""The Pulumi engine: the user's own, the cache's, the publisher's, or built here."""

import hashlib
import io
import os
import platform
import re
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tools import golang
from tools.commands import run
from tools.say import ROOT, SetupError, say
from tools.store import Slot

VERSION = "v3.259.0"
PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
ARCHIVES = "https://get.pulumi.com/releases/sdk"
CHECKSUMS = "https://github.com/pulumi/pulumi/releases/download"
FIRST_ANSWER_S = 8
"""A closed network is noticed this soon; then the engine is built instead."""


def find() -> Path:
    """The engine's path: on PATH if at least VERSION, else from the cache, which this fills."""
    slot = Slot("pulumi", VERSION)
    for candidate in _on_path():
        if _version(candidate) >= _numbers(VERSION):
            return candidate
        say(f"{candidate} is older than {VERSION}; not used")
    return slot.fill(bring, "downloaded, or else built in some 6 min on two cores")


def bring(folder: Path, archives: str = ARCHIVES, checksums: str = CHECKSUMS) -> None:
    """Leave the engine in `folder`: as its publisher packs it, else built from its source."""
    try:
        _download(folder, archives, checksums)
    except (OSError, SetupError, tarfile.TarError) as error:
        say(f"pulumi {VERSION}: no download ({error}); building it, some 6 min on two cores")
        _build(folder)


def _on_path() -> list[Path]:
    """The first `pulumi` on PATH that is not the link we made to one."""
    # Resolved: one checkout may be on PATH under two names, and a link to itself finds nothing.
    ours = (ROOT / ".venv/bin").resolve()
    folders = [f for f in os.get_exec_path() if f and Path(f).resolve() != ours]
    found = shutil.which("pulumi", path=os.pathsep.join(folders))
    return [Path(found)] if found else []


def _version(pulumi: Path) -> tuple[int, ...]:
    try:
        # Asked for its version only, it must not look for a newer one.
        return _numbers(
            run([pulumi, "version"], limit_s=60, more={"PULUMI_SKIP_UPDATE_CHECK": "true"})
        )
    except SetupError:
        return ()


def _numbers(version: str) -> tuple[int, ...]:
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(part) for part in found.groups()) if found else ()


def _download(folder: Path, archives: str, checksums: str) -> None:
    """The publisher's archive, language hosts and all, checked against the publisher's sums."""
    name = f"pulumi-{VERSION}-{_platform()}.tar.gz"
    sums = _get(f"{checksums}/{VERSION}/pulumi-{VERSION[1:]}-checksums.txt").decode()
    wanted = dict(reversed(line.split()) for line in sums.splitlines() if len(line.split()) == 2)
    data = _get(f"{archives}/{name}")
    if hashlib.sha256(data).hexdigest() != wanted.get(name):
        raise SetupError(f"{name} is not what its publisher's checksums say")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        # Python before 3.11.4 (Debian 12's) has no filters; the checksum has vouched for the names.
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder / "dist", **safe)
    # Only now does anything lie where it would be found: a half is never taken for a whole.
    for program in (folder / "dist/pulumi").iterdir():
        program.rename(folder / program.name)
    shutil.rmtree(folder / "dist")


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=FIRST_ANSWER_S) as answer:
            return bytes(answer.read())
    except urllib.error.URLError as error:
        raise SetupError(f"{url}: {error.reason}") from error


def _platform() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    return f"{sys.platform}-{machine.get(platform.machine().lower(), platform.machine())}"


def _build(folder: Path) -> None:
    stamp = f"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={VERSION}"
    flags = ["-tags", "osusergo,grpcnotrace", "-ldflags", f"-s -w -X {stamp}"]
    golang.build("pulumi", PACKAGE, folder, flags)
