"""`mayfly bench`: the inference test and the benchmark, on a session, with what the session is."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly.benched import rate_words, session_facts, thinking_words
from mayfly.commands.connect import facts, opened, serving
from mayfly.errors import FailedError, WrongInputError
from mayfly.project import CHECKOUT
from mayfly.talk import tell

BENCH = CHECKOUT / "bench"
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
    """0 when every request succeeded, 1 when some failed: the result is kept all the same.

    FailedError where the endpoint does not do what clients need: nothing is measured then.
    """
    check(wanted)
    place, local_port = serving(wanted.session, wanted.port)
    with opened(place, local_port) as tunnel, tempfile.TemporaryDirectory() as folder:
        found = facts(place.cloud, place.vm, tunnel, True)
        kept = wanted.out or Path(folder, "result.json")
        environment = {"OPENAI_BASE_URL": found["base_url"], "OPENAI_API_KEY": found["api_key"]}
        # With --json, stdout is the result's alone.
        quiet = {"env": os.environ | environment, "stdout": sys.stderr if as_json else None}
        if program("test_inference.py", thinking_words(place.vm), **quiet):
            raise FailedError(
                f"The endpoint of {place.vm.session} does not do what clients need (above).",
                "Nothing was measured; the session runs on and costs money until it is idle.",
                f"Try: mayfly logs {place.vm.session}",
            )
        code = program(
            "benchmark.py", [*rate_words(place.vm), *wanted.words, "--out", str(kept)], **quiet
        )
        if not kept.is_file():
            return code or 1
        result = json.loads(kept.read_text()) | {"session": session_facts(place.cloud, place.vm)}
        kept.write_text(json.dumps(result, indent=1) + "\n")
        if as_json:
            print(json.dumps(result, indent=2))
        if wanted.report:
            program("report.py", [str(kept), "--out", str(wanted.report)], stdout=sys.stderr)
    if wanted.out:
        tell(f"Kept: {wanted.out}")
    return code


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
