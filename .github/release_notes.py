"""`release_notes.py VERSION`: that version's section of CHANGELOG.md, for its release.

Exit 1, with the reason, where the section or the version in pyproject.toml is missing.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def notes(changelog: str, version: str) -> str:
    """The section without its heading. ValueError where there is none, or nothing in it."""
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    found = re.search(rf"{heading}(.*?)(?=^## |^\[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section [{version}] with a date and something in it")
    return found[1].strip() + "\n"


def main(version: str) -> str:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if packaged != version:
        raise ValueError(f"the tag says {version}, pyproject.toml {packaged}")
    return notes((ROOT / "CHANGELOG.md").read_text(), version)


if __name__ == "__main__":
    try:
        print(main(sys.argv[1]), end="")
    except ValueError as error:
        sys.exit(f"no release: {error}")
