"""Run other programs, with a limit, and say what failed in their own last words."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.say import SetupError

KEPT_LINES = 15


def run(
    command: Sequence[str | Path],
    *,
    limit_s: float,
    folder: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Stdout. SetupError with the last lines if it fails or takes longer than limit_s seconds."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise SetupError(f"{words[0]} is not on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"`{' '.join(words)}` took longer than {limit_s:.0f} s.") from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-KEPT_LINES:])
        raise SetupError(f"`{' '.join(words)}` failed (exit {done.returncode}):\n{last}")
    return done.stdout
