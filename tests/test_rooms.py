"""Who may import whom: the table of docs/architecture.md against every import of every file."""

import ast
import sys
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from tests.conftest import ROOT

TABLE = "## Rooms and who may import whom"
OWN = ("bench", "components", "local", "mayfly", "reaper", "startup", "tests", "tools")
FREE = {"tests/"}
"""Rooms that may import everything."""


def allowed() -> dict[str, dict[str, set[str]]]:
    """Room -> file -> words of the last column. "" stands for every file of the room; "in X also
    a, b" adds words for X, a file or a folder."""
    section = (ROOT / "docs/architecture.md").read_text().split(TABLE)[1].splitlines()
    from_table = dropwhile(lambda line: not line.startswith("|"), section)
    _, _, *rows = takewhile(lambda line: line.startswith("|"), from_table)
    found = {}
    for line in rows:
        room, _, may = (cell.strip() for cell in line.strip("|").split("|"))
        whole, *parts = may.split("; in ")
        found[room.strip("`")] = {"": _words(whole)} | {
            name: _words(words) for name, _, words in (part.partition(" also ") for part in parts)
        }
    return found


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",")}


def imports(source: str) -> set[str]:
    """Full names of the modules that a file imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("a relative import")
    return found


def strangers(room: str, source: str, file: str = "") -> set[str]:
    """The imports that the room's row does not allow to its file of that path."""
    row = allowed()[room]
    own = {file, Path(file).name, f"{file.partition('/')[0]}/"}
    may = set().union(row[""], *(words for name, words in row.items() if name in own))
    return {name for name in imports(source) if not _may(room, name, may)}


def _may(room: str, name: str, may: set[str]) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == room.rstrip("/"):
        return True
    if top in OWN:
        return any(name == word or name.startswith(f"{word}.") for word in may)
    if room in ("mayfly/", "local/"):
        # These rows forbid instead of allowing: packages are theirs to choose, but one.
        return not (room == "mayfly/" and top.startswith("pulumi"))
    return any(top == word or (word.endswith("*") and top.startswith(word[:-1])) for word in may)


def beside(path: Path) -> set[str]:
    """What a folder of programs (no package) imports from itself, in full: `startup.Script`."""
    if (path.parent / "__init__.py").exists():
        return set()
    own = {p.stem for p in path.parent.glob("*.py")}
    return {name for name in imports(path.read_text()) if name.partition(".")[0] in own}


def files(room: str) -> list[Path]:
    if room == "__main__.py":
        return [ROOT / room]
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def inside(room: str, path: Path) -> str:
    return str(path.relative_to(ROOT / room))


ROOMS = sorted(set(allowed()) - FREE - {"profiles/"})


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_the_table_allows(room):
    """The local cloud would share the product's mistakes; the reaper would need the desk."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in files(room)
        if (names := strangers(room, path.read_text(), inside(room, path)) - beside(path))
    }

    assert not found


def test_table_has_a_row_for_every_room():
    """A folder without a row would be free to import anything."""
    folders = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}

    assert folders <= set(allowed())
    assert all(files(room) for room in ROOMS)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("local/", "from mayfly import names"),
        ("local/", "import components.instance"),
        ("mayfly/", "import local.rest"),
        ("mayfly/", "import pulumi_gcp"),
        ("mayfly/", "def f():\n    from tests import conftest"),
        ("components/", "from mayfly.cloud import connect"),
        ("components/", "import requests"),
        ("startup/", "import requests"),
        ("startup/", "from mayfly import settings"),
        ("reaper/", "from mayfly.settings import parse"),
        ("bench/", "from mayfly.cli import main"),
        ("tools/", "import yaml"),
        ("__main__.py", "from mayfly.cloud import connect"),
        ("components/", "from . import labels"),
    ],
)
def test_room_check_turns_red_when_an_import_crosses_a_wall(room, line):
    """The twin: a check that sees nothing passes everything."""
    assert strangers(room, line)


def test_room_check_allows_a_folder_its_own_words_and_no_other():
    """vllm in the watchdog would be a node that never starts."""
    line = "from vllm import envs"

    assert not strangers("startup/", line, "vllm_plugin/loader.py")
    assert {"vllm.envs"} == strangers("startup/", line, "watchdog.py")


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("components/", "import pulumi_gcp as gcp\nfrom mayfly.settings import Rate\nimport json"),
        ("startup/", "from mayfly import idle\nimport urllib.request"),
        ("reaper/", "import functions_framework\nfrom mayfly.cloud import connect"),
        ("mayfly/", "import typer\nfrom mayfly import idle"),
    ],
)
def test_room_check_stays_green_when_the_table_allows_it(room, line):
    """A check that is always red would be switched off."""
    assert not strangers(room, line)
