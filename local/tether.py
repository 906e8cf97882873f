"""Run a command so that it, and everything it starts, ends when our parent does.

    python -I -S tether.py GRACE_S COMMAND...      (stdin: a pipe that the parent holds open)

The parent's death, even by SIGKILL, closes the pipe. (A parent-death signal would follow the
*thread* that forked us, which may be a short-lived request's.) Whatever the command leaves behind,
a daemon or a child in a session of its own, is handed to us as its subreaper and killed too.
Exits with the command's status.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LAST_ROUNDS = 200  # a process that is already dead takes a moment to become reapable


def main(grace_s: float, command: list[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake, wake_in = os.pipe()
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: stop.append(n))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = spawn(libc, command)
    status = wait_for_end(child, wake, stop)
    if status is None:
        status = end(child, grace_s)
    kill_descendants()
    return status


def spawn(libc: ctypes.CDLL, command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def wait_for_end(child: int, wake: int, stop: list[int]) -> int | None:
    """The command's exit status, or None when it is to be ended."""
    while not stop:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 4096):
            return None
        if wake in ready:
            os.read(wake, 4096)
        status = reap(child)
        if status is not None:
            return status
    return None


def end(child: int, grace_s: float) -> int:
    os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        status = reap(child)
        if status is not None:
            return status
        time.sleep(0.02)
    return 128 + signal.SIGKILL


def reap(child: int) -> int | None:
    """Collect every process that ended; the status of `child` if it was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found if found is not None else 0
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def kill_descendants() -> None:
    """Killing a process hands its children to us, so this repeats until none is left."""
    for _ in range(LAST_ROUNDS):
        children = own_children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
        reap(-1)


def own_children() -> list[int]:
    me = os.getpid()
    with open(f"/proc/{me}/task/{me}/children") as listing:
        return [int(word) for word in listing.read().split()]


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
