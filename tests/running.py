"""Processes that end with the test that started them, whether it passes or not."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

END_LIMIT_S = 30.0


@contextlib.contextmanager
def running(command: Sequence[Any], **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with text pipes; after the block it is gone and its pipes are closed.

    how: as for Popen. With start_new_session its whole session is killed if it still runs. One that
    were left to itself would be collected somewhere in the middle of another test, and redden that.
    """
    process = subprocess.Popen(command, text=True, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            if how.get("start_new_session"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait(END_LIMIT_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
