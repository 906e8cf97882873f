"""Run `pulumi destroy` on one stack, without its program, within a time limit."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mayfly import names
from reaper.lease import Run

TAIL_LINES = 12
TAIL_CHARS = 2000
PROJECT_FILE = f"name: {names.PROJECT}\nruntime: python\n"
LOCKED = "the stack is currently locked"


@dataclass(frozen=True)
class Outcome:
    """How a destroy ended. status: "done", "locked", "timeout" or "failed"."""

    status: str
    text: str
    run: Run


@dataclass(frozen=True, kw_only=True)
class Order:
    """One stack to destroy.

    engine: the folder that is all of PATH. message: goes into the stack's history.
    has_pending: creates that were cut off are to be forgotten first: a destroy leaves them.
    has_history: False for a stack whose first update never ended: the engine then has no
    configuration of it and wants a project file; what the providers need is in the state.
    """

    engine: Path
    bucket: str
    stack: str
    message: str
    has_pending: bool
    has_history: bool


@dataclass(frozen=True)
class Limit:
    """At `at` (monotonic seconds) the engine is asked to stop; grace_s later it is killed."""

    at: float
    grace_s: float

    def left_s(self) -> float:
        return max(0.0, self.at - time.monotonic())


def destroy(order: Order, limit: Limit, started: Callable[[Run], None]) -> Outcome:
    """Destroy what is left of a stack; the stack itself stays, empty, with its history.

    started: told of each process before it is waited for. All are over when this returns.
    """
    with tempfile.TemporaryDirectory(prefix="mayfly-destroy-") as scratch:
        work = Path(scratch, "work")
        work.mkdir()
        if not order.has_history:
            (work / "Pulumi.yaml").write_text(PROJECT_FILE)
        outcome = None
        for words in _steps(order):
            outcome = _run(order, words, Path(scratch), limit, started)
            if outcome.status != "done":
                break
    assert outcome is not None  # there is at least one step
    return outcome


def _steps(order: Order) -> list[list[str]]:
    common = [
        *("--yes", "--skip-preview", "--non-interactive", "--suppress-outputs", "--color=never"),
        *(f"--message={order.message}", f"--stack={names.full_stack(order.stack)}"),
    ]
    forget = ["refresh", "--clear-pending-creates", *common]
    take = ["destroy", "--refresh", *common]
    return [forget, take] if order.has_pending else [take]


def _run(
    order: Order, words: list[str], scratch: Path, limit: Limit, started: Callable[[Run], None]
) -> Outcome:
    # A file, not a pipe: a plugin that outlives its engine must not hold us.
    log = scratch / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(order.engine / "pulumi"), *words],
            cwd=scratch / "work",
            env=_environment(os.environ, order, scratch),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        now = time.time()
        run = Run(
            stack=order.stack,
            pid=process.pid,
            host=socket.gethostname(),
            since=now,
            until=now + limit.left_s() + limit.grace_s,
        )
        try:
            started(run)
            in_time = _wait(process, limit)
        finally:
            _kill_group(process)
    text = _tail(log.read_text(errors="replace"))
    return Outcome(_status(process.returncode, in_time, text), text, run)


def _environment(outer: Mapping[str, str], order: Order, scratch: Path) -> dict[str, str]:
    """The function's own identity and endpoints; nothing of its PATH or home."""
    return {
        "PULUMI_CONFIG_PASSPHRASE": "",  # unlocks only what was never locked
        **outer,
        "PATH": str(order.engine),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PULUMI_HOME": str(scratch / "pulumi"),
        "PULUMI_BACKEND_URL": f"gs://{order.bucket}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _wait(process: subprocess.Popen[bytes], limit: Limit) -> bool:
    """True when the process ended by itself in time."""
    try:
        process.wait(limit.left_s())
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        # Asked politely, the engine saves its state and releases its lock. One that does not stop
        # is killed with its group next.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit.grace_s)
        return False
    return True


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Whatever the engine left running, and the engine if it would not stop."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _status(returncode: int, in_time: bool, text: str) -> str:
    if not in_time:
        return "timeout"
    if returncode == 0:
        return "done"
    return "locked" if LOCKED in text else "failed"


def _tail(text: str) -> str:
    """The engine's own errors if it names any, else its last lines; one line in all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return " | ".join((errors or lines)[-TAIL_LINES:])[:TAIL_CHARS]
