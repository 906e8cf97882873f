"""up, down and serve: who runs, where, and that nothing stays behind.

A running local cloud holds a lock on DIR/lock for as long as its process lives: the kernel drops
it whatever happens to the process, so the lock, not a number in a file, says whether one runs.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.cloud import LocalCloud, Options, StartError
from local.exports import ROOT, shell
from local.hub_process import HubError
from local.machine import MachineError
from local.tools_found import MissingToolError

PR_SET_PDEATHSIG = 1
UP_LIMIT_S = 120.0
DOWN_LIMIT_S = 60.0
MARK = "lock"
LOCK_TRIES = 50


class LifecycleError(Exception):
    """What the user is told; `status` is the exit code."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def up(directory: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Start one in the background and wait until it answers; the one that runs, if one does."""
    check_directory(directory)
    if running(directory):
        return wait_for_answer(directory, None)
    clear(directory)
    command = [sys.executable, "-P", "-m", "local", "serve", "--dir", str(directory), "--detached"]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            return wait_for_answer(directory, process)
        except ChildProcessError:
            words.seek(0)
            text = words.read().decode(errors="replace").strip()
            status = process.wait()
            raise LifecycleError(text or "The local cloud did not start.", status) from None
        except BaseException:
            end(process.pid)  # Ctrl-C must not leave one that nobody knows of
            raise


def wait_for_answer(directory: Path, process: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    """local.json, once it is there; ChildProcessError when `process` ends before."""
    deadline = time.monotonic() + UP_LIMIT_S
    while time.monotonic() < deadline:
        try:
            return described(directory)
        except FileNotFoundError:
            if process and process.poll() is not None:
                raise ChildProcessError from None
        time.sleep(0.05)
    raise LifecycleError(f"The local cloud did not answer within {UP_LIMIT_S:.0f} s.")


def down(directory: Path) -> str:
    """End what runs in `directory` and remove it; says what was done."""
    check_directory(directory)
    if not directory.exists():
        return f"No local cloud in {directory}."
    left = exported(directory)
    found = running(directory)
    if found:
        end(found)
    clear(directory)
    gone = f"The local cloud in {directory} is gone."
    if not left:
        return gone
    return (
        f"{gone}\nIn a shell that took its exports `pulumi` would wait for it, for minutes.\n"
        f"Leave it, open a new one, or run: unset {' '.join(left)}"
    )


def exported(directory: Path) -> list[str]:
    """The variables that a shell may still hold of it; PATH does no harm."""
    try:
        return [name for name in described(directory)["exports"] if name != "PATH"]
    except (OSError, ValueError, KeyError):
        return []


def serve(options: Options, *, detached: bool) -> None:
    """Run one until SIGTERM or SIGINT, or the parent's death unless detached; leaves nothing."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if not detached:
        end_with_parent()
    check_directory(options.directory)
    with held(options.directory):
        try:
            run(options, stop, detached)
        finally:
            clear(options.directory)


def run(options: Options, stop: threading.Event, detached: bool) -> None:
    try:
        cloud = LocalCloud(options)
    except (StartError, HubError, MachineError, MissingToolError) as error:
        raise LifecycleError(str(error)) from error
    try:
        if not stop.is_set():
            description = cloud.describe()
            if detached:
                speak_to_log(options.directory)
            write_atomically(options.directory / "local.json", description)
            if not detached:
                print(shell(description["exports"]), end="", flush=True)
            stop.wait()
    finally:
        cloud.stop()


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; LifecycleError when another process does."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / MARK).open("a+") as lock:
        for left in range(LOCK_TRIES, -1, -1):  # whoever asks `running` holds it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise already_runs(directory) from None
            time.sleep(0.02)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def already_runs(directory: Path) -> LifecycleError:
    return LifecycleError(
        f"A local cloud already runs in {directory}.\nIt was left as it is.\n"
        f"Try: python -m local down --dir {directory}"
    )


def running(directory: Path) -> int | None:
    """The process id of the local cloud in `directory`, or None."""
    for _ in range(LOCK_TRIES):
        try:
            with (directory / MARK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            written = (directory / MARK).read_text().strip()
            if written:
                return int(written)
            time.sleep(0.02)
            continue
        return None
    raise LifecycleError(f"Something holds {directory / MARK}; no local cloud says that it does.")


def described(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "local.json").read_text())
    return found


def ended(pid: int) -> bool:
    """Whether a process is over; one that its parent has not collected yet is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def end(pid: int) -> None:
    """SIGTERM, then SIGKILL for one that does not listen; returns when it is gone."""
    for number, limit_s in ((signal.SIGTERM, DOWN_LIMIT_S), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if ended(pid):
                return
            time.sleep(0.05)
    raise LifecycleError(f"Process {pid} does not end.")


def check_directory(directory: Path) -> None:
    """Refuse a directory that holds somebody else's files: it is removed at the end.

    `pulumi` alone is ours: the engine makes it anew in a shell that still has the exports of a
    local cloud that is gone.
    """
    if not directory.exists() or (directory / MARK).exists():
        return
    if not directory.is_dir() or {entry.name for entry in directory.iterdir()} - {"pulumi"}:
        raise LifecycleError(
            f"{directory} exists and holds no local cloud.\nNothing was started or removed.\n"
            f"Try: look what it holds, then rm -r {directory}",
            2,
        )


def clear(directory: Path) -> None:
    """Remove the directory, `lock` last: half a removal can be repeated."""
    if not directory.exists():
        return
    for entry in directory.iterdir():
        if entry.name == MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    shutil.rmtree(directory)


def end_with_parent() -> None:
    """Get SIGTERM when the parent goes, by whatever death.

    To be called on the main thread: the kernel means the thread that asks, and this one stays.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def speak_to_log(directory: Path) -> None:
    """From here on nobody reads our output."""
    log = os.open(directory / "logs" / "serve.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def write_atomically(target: Path, value: Any) -> None:
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(value, indent=2) + "\n")
    fresh.replace(target)
