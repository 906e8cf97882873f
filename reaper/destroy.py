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
LOCKED = "the stack is currently locked"


@dataclass(frozen=True)
class Outcome:
    """How a destroy ended. status: "done", "locked", "timeout" or "failed"."""

    status: str
    text: str
    run: Run


def destroy(
    engine: Path,
    bucket: str,
    stack: str,
    *,
    message: str,
    limit_s: float,
    grace_s: float,
    started: Callable[[Run], None],
) -> Outcome:
    """Destroy what is left of a stack; the stack itself stays, empty, with its history.

    engine: the folder that is all of PATH. limit_s: then it is asked to stop; grace_s later it is
    killed. started: told of the process before it is waited for.
    The process is over when this returns.
    """
    with tempfile.TemporaryDirectory(prefix="mayfly-destroy-") as scratch:
        # A file, not a pipe: a plugin that outlives its engine must not hold us.
        log = Path(scratch, "log")
        (work := Path(scratch, "work")).mkdir()
        with log.open("wb") as out:
            process = subprocess.Popen(
                _command(engine, stack, message),
                cwd=work,
                env=_environment(os.environ, engine, bucket, scratch),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            now = time.time()
            run = Run(
                stack=stack,
                pid=process.pid,
                host=socket.gethostname(),
                since=now,
                until=now + limit_s + grace_s,
            )
            try:
                started(run)
                in_time = _wait(process, limit_s, grace_s)
            finally:
                _kill_group(process)
        text = _tail(log.read_text(errors="replace"))
    return Outcome(_status(process.returncode, in_time, text), text, run)


def _command(engine: Path, stack: str, message: str) -> list[str]:
    return [
        str(engine / "pulumi"),
        "destroy",
        "--yes",
        "--refresh",
        "--skip-preview",
        "--non-interactive",
        "--suppress-outputs",
        "--color=never",
        f"--message={message}",
        f"--stack={names.full_stack(stack)}",
    ]


def _environment(
    outer: Mapping[str, str], engine: Path, bucket: str, scratch: str
) -> dict[str, str]:
    """The function's own identity and endpoints; nothing of its PATH or home."""
    return {
        "PULUMI_CONFIG_PASSPHRASE": "",  # unlocks only what was never locked
        **outer,
        "PATH": str(engine),
        "HOME": scratch,
        "TMPDIR": scratch,
        "PULUMI_HOME": str(Path(scratch, "pulumi")),
        "PULUMI_BACKEND_URL": f"gs://{bucket}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _wait(process: subprocess.Popen[bytes], limit_s: float, grace_s: float) -> bool:
    """True when the process ended by itself in time."""
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        # Asked politely, the engine saves its state and releases its lock. One that does not stop
        # is killed with its group next.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
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
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-TAIL_LINES:])
