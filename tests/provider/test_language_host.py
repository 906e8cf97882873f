"""The language host of engines without one: what a program's end looks like to the user."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.provider.engine import Stack, stack_in
from tests.running import running
from tools.language_host import Host


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return stack_in(tmp_path_factory.mktemp("stack"), {})


def test_program_says_its_message_only_when_it_refuses(stack: Stack) -> None:
    """A wrong setting is the user's: one plain message, no traceback through mayfly."""
    stack.program('import pulumi\nraise pulumi.RunError("mayfly:zone: there is no zone mars-a")\n')

    text = stack.run("preview", fails=True)

    diagnostics = text.partition("Diagnostics:")[2]
    assert diagnostics.count("error: mayfly:zone: there is no zone mars-a") == 1
    assert "Traceback" not in text


def test_program_shows_where_when_it_breaks(stack: Stack) -> None:
    """A defect is ours: without the traceback nobody finds it."""
    stack.program("def deep():\n    raise ValueError('broken inside')\n\ndeep()\n")

    text = stack.run("preview", fails=True)

    assert "ValueError: broken inside" in text
    assert "in deep" in text


def test_program_prints_into_the_engines_log(stack: Stack) -> None:
    """A print is how people debug; it must not vanish, nor lose a last line without newline."""
    stack.program("print('hello there')\nprint('the end', end='')\n")

    text = stack.up()

    assert "hello there" in text
    assert "the end" in text


def test_program_imports_what_lies_beside_it(stack: Stack) -> None:
    """`__main__.py` imports the project's own packages, whatever folder the engine was started
    in."""
    (stack.folder / "beside.py").write_text("VALUE = 'from beside'\n")
    stack.program("import pulumi\nfrom beside import VALUE\npulumi.export('value', VALUE)\n")

    stack.up()

    assert stack.outputs() == {"value": "from beside"}


def test_host_ends_without_a_word_when_the_engine_says_so() -> None:
    """One that ignores the engine's SIGINT is killed, ten seconds later, by every command."""
    command = [sys.executable, "-P", str(ROOT / "tools/language_host.py"), "127.0.0.1:9"]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert int(host.stdout.readline()) > 0
        host.send_signal(signal.SIGINT)

        assert host.communicate(timeout=60) == ("", "")

    assert host.returncode == 0


class AbandonedError(Exception):
    """The call was aborted."""


class Context:
    """A gRPC context of which the host uses two methods."""

    def add_callback(self, callback: Any) -> bool:
        return True

    def abort(self, code: Any, details: str) -> None:
        raise AbandonedError(details)


def plugin(kind: str, tmp_path: Path) -> Any:
    return SimpleNamespace(
        kind=kind,
        args=["127.0.0.1:9"],
        env=["PATH=/usr/bin:/bin"],
        pwd=str(tmp_path),
        info=SimpleNamespace(program_directory=str(tmp_path)),
    )


def test_policy_packs_report_what_they_print_and_how_they_end(tmp_path: Path) -> None:
    """Its output and exit status are the engine's only way to say why a policy did not run."""
    (tmp_path / "__main__.py").write_text("print('pack speaks')\nraise ValueError('no rules')\n")

    answers = list(Host().RunPlugin(plugin("analyzer", tmp_path), Context()))

    printed = {
        stream: b"".join(getattr(a, stream) for a in answers if a.WhichOneof("output") == stream)
        for stream in ("stdout", "stderr")
    }
    assert printed["stdout"] == b"pack speaks\n"
    assert b"ValueError: no rules" in printed["stderr"]
    assert answers[-1].exitcode == 1


def test_host_refuses_plugins_that_it_cannot_run(tmp_path: Path) -> None:
    """One plain message instead of a plugin that never answers."""
    with pytest.raises(AbandonedError, match="policy packs only"):
        list(Host().RunPlugin(plugin("resource", tmp_path), Context()))
