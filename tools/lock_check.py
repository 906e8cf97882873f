"""Is requirements.lock in step with pyproject.toml? Run by the project's own Python.

Resolving anew would need an index and change with it; what can be known without one is checked:
each dependency is locked, at a version it allows, with hashes, and nothing else claims to be one.
"""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
OWN = "(pyproject.toml"


def problems(pyproject: str, lock: str) -> list[str]:
    """One line for each thing out of step; none if all is well."""
    wanted = _wanted(pyproject)
    blocks = {_name(block): block for block in _blocks(lock)}
    found = []
    for name, requirement in wanted.items():
        block = blocks.get(name)
        if block is None:
            found.append(f"{name} is not locked")
        elif not requirement.specifier.contains(_version(block), prereleases=True):
            found.append(f"{name} is locked at {_version(block)}, not {requirement.specifier}")
    for name, block in blocks.items():
        if OWN in block and name not in wanted:
            found.append(f"{name} is locked for pyproject.toml, which does not name it")
        if "--hash=sha256:" not in block:
            found.append(f"{name} is locked without a hash")
    return found


def _wanted(pyproject: str) -> dict[str, Requirement]:
    data = tomllib.loads(pyproject)
    texts = [*data["project"]["dependencies"], *data["dependency-groups"]["dev"]]
    requirements = [Requirement(text) for text in texts]
    return {canonicalize_name(each.name): each for each in requirements}


def _blocks(lock: str) -> list[str]:
    """The lock cut before each `name==version`."""
    starts = [match.start() for match in ENTRY.finditer(lock)]
    return [lock[a:b] for a, b in zip(starts, [*starts[1:], len(lock)], strict=True)]


def _name(block: str) -> str:
    return canonicalize_name(block.partition("==")[0])


def _version(block: str) -> str:
    found = ENTRY.match(block)
    return found["version"] if found else ""


def main() -> int:
    """0 in step, 1 not."""
    found = problems(
        (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()
    )
    for line in found:
        print(f"requirements.lock: {line}", file=sys.stderr)
    if found:
        print("Try: make lock", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
