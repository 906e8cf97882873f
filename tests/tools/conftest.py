"""A machine with nothing but the programs that a test puts on PATH, and an empty cache."""

import json
import stat
import sys
from pathlib import Path

import pytest

RECORDER = """#!{python} -IS
import json, os, pathlib, sys
here = pathlib.Path(__file__)
with open(f"{{here}}.calls", "a") as calls:
    kept = {{key: os.environ.get(key) for key in ("CGO_ENABLED", "GOFLAGS", "GOWORK")}}
    print(json.dumps([sys.argv[1:], os.getcwd(), kept]), file=calls)
{body}
"""


class Machine:
    """PATH and cache of its own. `program` puts a fake on PATH that records how it is called."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.cache = root / "cache"
        self.bin.mkdir()

    def program(self, name: str, body: str = "") -> Path:
        """body: Python, run with `args` in sys.argv; the recorded call is written first."""
        path = self.bin / name
        path.write_text(RECORDER.format(python=sys.executable, body=body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def calls(self, name: str) -> list[list]:
        path = self.bin / f"{name}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


BUILDS = """
if sys.argv[1] == "version":
    print("go version go{version} linux/amd64")
elif sys.argv[1] == "build":
    out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
    out.write_text("#!/bin/sh\\nexit 0\\n")
    out.chmod(0o755)
"""


@pytest.fixture
def machine(monkeypatch, tmp_path) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.cache))
    return made


@pytest.fixture
def go(machine):
    """A `go` on PATH whose builds leave a program."""
    return machine.program("go", BUILDS.format(version="1.26.3"))


@pytest.fixture
def builds():
    """The body of a fake go, with {version} to fill."""
    return BUILDS
