"""`mayfly demo`: the story, in processes that neither a crash nor Ctrl-C can leave behind."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from mayfly.commands.local import need_local_cloud
from mayfly.errors import WrongInputError
from mayfly.project import CHECKOUT

TETHER = CHECKOUT / "local" / "tether.py"
# The story's own cleanup: its commands, then the local cloud with its machines.
GRACE_S = 45


def run(*, fast: bool, report: Path | None, as_json: bool) -> None:
    """Tell the story; afterwards no process, no folder and no change in git is left of it."""
    need_local_cloud()
    if report is not None and not report.absolute().parent.is_dir():
        raise WrongInputError(f"{report}: there is no such folder.", "Nothing was attempted.")
    place = tempfile.mkdtemp(prefix="mayfly-demo-")
    words = [*(["--fast"] if fast else []), *(["--json"] if as_json else [])]
    words += ["--report", str(report.absolute())] if report is not None else []
    try:
        status = supervise([sys.executable, "-m", "mayfly.demo", "--place", place, *words])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if status:
        raise typer.Exit(1)


def supervise(command: Sequence[str]) -> int:
    """Run a command that ends, with all it started, when we do; its status, 130 if interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tether = subprocess.Popen(
        [sys.executable, "-I", "-S", str(TETHER), str(GRACE_S), *command],
        stdin=subprocess.PIPE,
        cwd=CHECKOUT,
        start_new_session=True,
    )
    assert tether.stdin is not None
    try:
        return tether.wait()
    except KeyboardInterrupt:
        print("Stopping; one moment.", file=sys.stderr)
        return 130
    finally:
        # The tether ends everything when this pipe closes: here, or when we are killed.
        tether.stdin.close()
        tether.wait()
