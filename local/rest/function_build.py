"""Building a function: its source from a bucket, unpacked, its requirements checked."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import IO

from packaging.requirements import InvalidRequirement, Requirement

UNPACKED_LIMIT_BYTES = 512 * 1024 * 1024
LOGS = "For more details see the logs at https://console.cloud.google.com/cloud-build/builds."


class BuildError(Exception):
    """The build failed; the message is Cloud Build's."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Build failed with status: FAILURE and message: {text}. {LOGS}")


def unpack(archive: IO[bytes], into: Path) -> None:
    """The source's files in `into`, made anew; BuildError for what is no source."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if sum(e.file_size for e in entries) > UNPACKED_LIMIT_BYTES:
                raise BuildError("the source is larger than 500 MB")
            for entry in entries:
                _extract(packed, entry, into)
    except zipfile.BadZipFile as error:
        raise BuildError(f"failed to extract the source: {error}") from error


def _extract(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path) -> None:
    target = (into / entry.filename).resolve()
    if not target.is_relative_to(into.resolve()):
        raise BuildError(f"the archive holds the unsafe name {entry.filename}")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BuildError(f"the archive holds the symbolic link {entry.filename}")
    packed.extract(entry, into)


def check(source: Path) -> None:
    """BuildError when Google's buildpack would refuse the source."""
    main = source / "main.py"
    if not main.exists():
        raise BuildError(
            "missing main.py and GOOGLE_FUNCTION_SOURCE not specified. Either create the "
            "function in main.py or "
            "specify GOOGLE_FUNCTION_SOURCE to point to the file that contains the function"
        )
    try:
        ast.parse(main.read_bytes())
    except SyntaxError as error:
        raise BuildError(f"failed to compile main.py: {error}") from error
    requirements = source / "requirements.txt"
    if requirements.exists():
        for requirement in parse_requirements(requirements.read_text()):
            _check_installed(requirement)


def parse_requirements(text: str) -> list[Requirement]:
    """The requirements that apply to this interpreter; options and hashes are pip's business."""
    found = []
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        wanted = re.split(r"\s+#|^#|\s--", line)[0].strip()
        if not wanted or wanted.startswith("-"):
            continue
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement as error:
            raise BuildError(f"ERROR: Invalid requirement: {wanted!r}: {error}") from error
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def _check_installed(requirement: Requirement) -> None:
    """The environment that the functions share stands in for what pip would have fetched."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if not version or not requirement.specifier.contains(version, prereleases=True):
        held = version or "none"
        raise BuildError(
            f"ERROR: Could not find a version that satisfies the requirement {requirement} "
            f"(from versions: {held}) "
            f"ERROR: No matching distribution found for {requirement}"
        )
