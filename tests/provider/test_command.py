"""The command provider's stand-in: what runs when, what is shown, what a failure says."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from local.provider.messages import RefusedError
from local.provider.shell import Commands
from local.provider.values import UNKNOWN
from tests.provider.conftest import LoggedLines, asking

COMMAND = "command:local:Command"


@pytest.fixture
def commands() -> Commands:
    return Commands(LoggedLines())


def created(commands: Commands, **inputs: Any) -> dict[str, Any]:
    checked = commands.check(asking(COMMAND, inputs=inputs))
    assert not checked.failures, checked.failures
    return commands.create(asking(COMMAND, inputs=checked.inputs))[1]


def lines(commands: Commands) -> list[str]:
    return commands._log.infos  # type: ignore[attr-defined, no-any-return]


def test_create_runs_the_script_when_applied(commands: Commands) -> None:
    """stdout and stderr are outputs, each without its last newline only."""
    state = created(commands, create="echo one; echo; echo two >&2", environment={"A": "b"})

    assert (state["stdout"], state["stderr"]) == ("one\n", "two")
    assert sorted(lines(commands)) == ["one", "two"]


def test_create_shows_lines_while_it_runs(commands: Commands, tmp_path: Any) -> None:
    """`pulumi up` must show readiness as it happens, not when it is over."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    thread = threading.Thread(
        target=created, args=(commands,), kwargs={"create": f"echo first; cat {gate}; echo last"}
    )
    thread.start()
    until = time.monotonic() + 60
    while not lines(commands) and time.monotonic() < until:
        thread.join(timeout=0.02)
    while_running = list(lines(commands))
    gate.write_text("")  # opens the gate
    thread.join(timeout=60)

    assert while_running == ["first"]
    assert lines(commands) == ["first", "last"]


@pytest.mark.parametrize(
    ("logging", "shown"),
    [("none", []), ("stdout", ["out"]), ("stderr", ["err"]), ("stdoutAndStderr", ["err", "out"])],
)
def test_create_logs_only_what_it_was_told_to(
    commands: Commands, logging: str, shown: list[str]
) -> None:
    """A key printed by a script must not reach the log of a CI run."""
    state = created(commands, create="echo out; echo err >&2", logging=logging)

    assert sorted(lines(commands)) == shown
    assert (state["stdout"], state["stderr"]) == ("out", "err")


def test_create_fails_as_the_real_one_when_the_script_fails(commands: Commands) -> None:
    """Exit status, script and output: that is all a user has to go by."""
    with pytest.raises(RefusedError) as refused:
        created(commands, create='echo "no zone"; exit 3')

    assert str(refused.value) == 'exit status 3: running "echo \\"no zone\\"; exit 3":\nno zone\n'


def test_create_runs_nothing_at_preview(commands: Commands, tmp_path: Any) -> None:
    """A preview must not touch anything."""
    script = f"touch {tmp_path}/made"
    request = asking(COMMAND, inputs={"create": script}, preview=True)
    _, state = commands.create(request)

    assert state["stdout"] is UNKNOWN
    assert not (tmp_path / "made").exists()


def test_script_gets_its_folder_input_and_interpreter(commands: Commands, tmp_path: Any) -> None:
    """Every way that a program may shape the call."""
    state = created(
        commands,
        create="import os, sys; print(os.getcwd(), sys.stdin.read())",
        dir=str(tmp_path),
        stdin="hello",
        interpreter=["python3", "-c"],
    )

    assert state["stdout"] == f"{tmp_path} hello"


def test_update_sees_the_previous_output_unless_told_not_to(commands: Commands) -> None:
    """A script can build on what it printed before."""
    script = 'echo "got:$PULUMI_COMMAND_STDOUT"'
    for inputs, expected in (({}, "got:before"), ({"addPreviousOutputInEnv": False}, "got:")):
        request = asking(
            COMMAND,
            resource_id="x",
            old={"create": "a", "stdout": "before", "stderr": ""},
            inputs={"create": script, **inputs},
        )
        assert commands.update(request)["stdout"] == expected


def test_update_runs_create_again_when_there_is_no_update(commands: Commands) -> None:
    """A changed script without `update` is run once more, as documented."""
    old = {"create": "echo a", "stdout": "a", "stderr": ""}
    again = asking(COMMAND, resource_id="x", old=old, inputs={"create": "echo b"})
    other = asking(
        COMMAND, resource_id="x", old=old, inputs={"create": "echo b", "update": "echo c"}
    )

    assert commands.update(again)["stdout"] == "b"
    assert commands.update(other)["stdout"] == "c"


@pytest.mark.parametrize(("inputs", "replaces"), [({}, ["triggers"]), ({"update": "echo"}, [])])
def test_triggers_replace_only_when_there_is_no_update(
    commands: Commands, inputs: dict[str, str], replaces: list[str]
) -> None:
    """Readiness hangs on this: a new VM's id must make it wait again."""
    old = {"create": "a", **inputs, "triggers": ["1"], "addPreviousOutputInEnv": True}
    new = {**old, "triggers": ["2"]}
    request = asking(COMMAND, resource_id="x", old={**old, "stdout": "", "stderr": ""}, inputs=new)
    unknown = asking(COMMAND, resource_id="x", old=old, inputs={**old, "triggers": [UNKNOWN]})

    assert commands.diff(request).replaces == replaces
    assert commands.diff(unknown).replaces == replaces


def test_diff_finds_nothing_when_nothing_changed(commands: Commands) -> None:
    """A second `up` must not wait for readiness again."""
    inputs = commands.check(asking(COMMAND, inputs={"create": "a", "triggers": ["1"]})).inputs
    old = {**inputs, "stdout": "x", "stderr": ""}

    assert commands.diff(asking(COMMAND, resource_id="x", old=old, inputs=inputs)).changes == {}


def test_delete_runs_its_script_with_the_last_output(commands: Commands, tmp_path: Any) -> None:
    """Without a `delete` nothing runs; with one it knows what the resource was."""
    script = f'echo "$PULUMI_COMMAND_STDOUT" > {tmp_path}/gone'
    commands.delete(asking(COMMAND, resource_id="x", old={"create": "false"}))
    commands.delete(asking(COMMAND, resource_id="x", old={"delete": script, "stdout": "it"}))

    assert (tmp_path / "gone").read_text() == "it\n"


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"creat": "echo"}, "Unrecognized field 'creat'"),
        ({"create": ["echo"]}, "Field 'create' must be a 'string' type"),
        ({"logging": "some"}, "Field 'logging' must be one of"),
        ({"assetPaths": ["*"]}, "the stand-in does not know assetPaths"),
        ({"environment": "A=b"}, "must be a map"),
    ],
)
def test_check_refuses_when_an_input_is_wrong(
    commands: Commands, inputs: dict[str, Any], text: str
) -> None:
    """Strict where the real one is, and honest where the stand-in does less."""
    checked = commands.check(asking(COMMAND, inputs=inputs))

    assert any(text in failure for failure in checked.failures)


def test_scripts_end_when_the_engine_cancels(commands: Commands) -> None:
    """Ctrl-C must not leave a script, or a child of it, waiting for a VM."""
    failure: list[str] = []

    def run() -> None:
        with pytest.raises(RefusedError) as refused:
            created(commands, create="echo started; sleep 300 & wait")
        failure.append(str(refused.value))

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 60
    while not lines(commands) and time.monotonic() < until:
        thread.join(timeout=0.02)
    commands.cancel()
    thread.join(timeout=60)

    assert failure
    assert failure[0].startswith("signal: terminated: running")


def test_script_ends_when_its_time_is_over(commands: Commands) -> None:
    """customTimeouts bound a script that waits for something that never comes."""
    request = asking(COMMAND, inputs={"create": "sleep 300"}, timeout_s=0.2)

    with pytest.raises(RefusedError, match="signal: terminated"):
        commands.create(request)


def test_scripts_do_not_see_what_only_the_stand_in_set(
    commands: Commands, monkeypatch: Any
) -> None:
    """A script must behave as under the real provider: PYTHONPATH would give it this checkout."""
    from tests.conftest import ROOT

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STANDIN_WAIT_SCALE", "0")
    state = created(commands, create='echo "[$PYTHONPATH$STANDIN_WAIT_SCALE]"')

    assert state["stdout"] == "[]"
