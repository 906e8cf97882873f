"""A stack of the real engine, its state in a folder, with the stand-ins on its PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.exports import write_wrappers
from tests.conftest import ROOT

LIMIT_S = 150


def find_engine() -> Path:
    """The engine that setup brought, or the one on PATH."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("pulumi", path=folders)
    assert found, "no pulumi engine: run `make setup`"
    return Path(found)


@dataclass
class Stack:
    """One stack and what its commands are run with."""

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str, fails: bool = False) -> str:
        """A pulumi command; the answer is all that it printed."""
        done = subprocess.run(
            ["pulumi", *words, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text

    def up(self, *words: str, fails: bool = False) -> str:
        return self.run("up", "--yes", "--skip-preview", *words, fails=fails)

    def outputs(self) -> dict[str, Any]:
        return dict(json.loads(self.run("stack", "output", "--json")))

    def program(self, text: str) -> None:
        (self.folder / "__main__.py").write_text(text)


def stack_in(folder: Path, more: dict[str, str]) -> Stack:
    """A new stack "dev" of a project in `folder`."""
    project, wrappers = folder / "project", folder / "tools"
    write_wrappers(wrappers, plugins=True)
    host = wrappers / "bin/pulumi-language-python"
    host.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P "{ROOT}/tools/language_host.py" "$@"\n')
    host.chmod(0o755)
    for name in (project, folder / "state", folder / "home"):
        name.mkdir()
    (project / "Pulumi.yaml").write_text("name: tiny\nruntime: python\n")
    path = [str(wrappers / "bin"), str(find_engine().parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        **more,
        "PATH": os.pathsep.join(path),
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    stack = Stack(project, environment)
    stack.run("stack", "init", "dev")
    return stack
