"""`mayfly bench`: the inference test and the benchmark, on a session, with what the session is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly.benched import rate_words, session_facts, thinking_words
from mayfly.cloud import CloudError
from mayfly.commands.connect import facts, opened, serving
from mayfly.errors import FailedError, WrongInputError
from mayfly.project import CHECKOUT
from mayfly.remote import Place
from mayfly.talk import tell

BENCH = CHECKOUT / "bench"
INTERRUPTED = 130
OWN = ("--out", "--url", "--key", "--json", "--usd-per-hour", "--rate-source", "--rate-date")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line. words: the benchmark's own flags."""

    session: str
    port: str
    words: Sequence[str]
    out: Path | None
    report: Path | None


def run(wanted: Wanted, *, as_json: bool) -> int:
    """0 when every request succeeded, 1 when some failed: the result is kept all the same; 130
    when it was interrupted.

    FailedError where the endpoint does not do what clients need: nothing is measured then.
    """
    check(wanted)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "result.json")
            code = measure(wanted, kept, quiet=as_json)
            return keep(wanted, kept, as_json=as_json) or code
    except KeyboardInterrupt:
        tell("Interrupted: nothing was kept. The session goes on until it is idle.")
        return INTERRUPTED


def measure(wanted: Wanted, kept: Path, *, quiet: bool) -> int:
    """Test and benchmark over a tunnel; the benchmark's exit status. kept: where the result goes.

    quiet: what they say goes to stderr, since stdout is the result's alone.
    """
    place, local_port = serving(wanted.session, wanted.port)
    with opened(place, local_port) as tunnel:
        found = facts(place.cloud, place.vm, tunnel, True)
        endpoint = {"OPENAI_BASE_URL": found["base_url"], "OPENAI_API_KEY": found["api_key"]}
        how = {"env": os.environ | endpoint, "stdout": sys.stderr if quiet else None}
        if program("test_inference.py", thinking_words(place.vm), **how):
            raise FailedError(
                f"The endpoint of {place.vm.session} does not do what clients need (above).",
                "Nothing was measured; the session runs on and costs money until it is idle.",
                f"Try: mayfly logs {place.vm.session}",
            )
        words = [*rate_words(place.vm), *wanted.words, "--out", str(kept)]
        code = program("benchmark.py", words, **how)
        if kept.is_file():
            result = json.loads(kept.read_text())
            result["session"] = told_facts(place)
            kept.write_text(json.dumps(result, indent=1) + "\n")
        return code


def told_facts(place: Place) -> dict[str, Any] | None:
    """What the session is. None where Google does not say: the figures are kept all the same."""
    try:
        return session_facts(place.cloud, place.vm)
    except CloudError as error:
        tell(f"What the session is, is not in the result: {error.message}")
        return None


def keep(wanted: Wanted, kept: Path, *, as_json: bool) -> int:
    """Print, copy and show the result, where there is one; the report's exit status."""
    if not kept.is_file():
        return 0
    if as_json:
        print(kept.read_text(), end="")
    if wanted.out:
        shutil.copyfile(kept, wanted.out)
        tell(f"Kept: {wanted.out}")
    if wanted.report:
        words = [str(kept), "--out", str(wanted.report)]
        return program("report.py", words, stdout=sys.stderr)
    return 0


def check(wanted: Wanted) -> None:
    """WrongInputError for what would be found out only after minutes."""
    for word in wanted.words:
        if word.partition("=")[0] in OWN:
            raise WrongInputError(
                f"{word}: mayfly bench says this to the benchmark itself.",
                "Nothing was attempted.",
                "Try: mayfly bench --out FILE -- --concurrent 1,2,8",
            )
    for path in (wanted.out, wanted.report):
        if path is not None and not path.absolute().parent.is_dir():
            raise WrongInputError(f"{path}: there is no such folder.", "Nothing was attempted.")


def program(name: str, words: Sequence[str], **more: Any) -> int:
    """One of bench/'s programs to its end: its exit status."""
    return subprocess.run(
        [sys.executable, str(BENCH / name), *words], check=False, **more
    ).returncode
