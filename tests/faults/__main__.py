"""`python -m tests.faults`: play the fault matrix, or a few of its rows, and say what was found."""

import argparse
import datetime
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.faults import page, publish, scenarios, shards
from tests.faults.place import Place
from tests.faults.runner import run_all
from tests.faults.scenario import ALL, Scenario

LOGS = ROOT / ".mayfly/faults"


def main(arguments: list[str] | None = None) -> int:
    """0 when every scenario held, 1 when one did not, 2 for a name that there is not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--json", action="store_true", help="the result on stdout")
    parser.add_argument("--runs", type=int, default=1, help="how often, in a row")
    parser.add_argument("--out", type=Path, help="the result as JSON; a table goes beside it")
    parser.add_argument("--logs", type=Path, help="a folder for the logs")
    parser.add_argument("--places", type=int, default=shards.PLACES, help="local clouds at once")
    parser.add_argument("--first", type=int, default=0, help="which condition comes first")
    options = parser.parse_args(arguments)
    wanted = [name for name in options.only.split(",") if name] or list(ALL)
    if unknown := [name for name in wanted if name not in ALL]:
        print(f"No scenario {', '.join(unknown)}. There are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    # Where bytecode is not kept, each engine compiles pulumi_gcp anew: 3 s of CPU at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or its cloud would outlive it
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    began = datetime.datetime.now(datetime.UTC)
    logs = options.logs or LOGS / began.strftime("%Y-%m-%dT%H%M%SZ")
    rows = perform([ALL[name] for name in wanted], options, logs)
    said = {
        "date": began.strftime("%Y-%m-%d"),
        "commit": commit(),
        "command": f"make faults RUNS={options.runs} OUT={options.out or ''}".removesuffix(" OUT="),
        "seconds": round((datetime.datetime.now(datetime.UTC) - began).total_seconds()),
        "scenarios": sorted(rows, key=lambda row: list(ALL).index(row["name"])),
    }
    if options.out:
        publish.publish(said, logs, options.out)
    print(json.dumps(said, indent=1) if options.json else page.told(said), flush=True)
    return 0 if all(row["ok"] for row in said["scenarios"]) else 1


def perform(
    chosen: list[Scenario], options: argparse.Namespace, logs: Path
) -> list[dict[str, Any]]:
    """Play some scenarios, here or in several places; a row each, in any order."""
    parts = shards.split(chosen, options.places)
    if len(parts) > 1:
        return shards.play(parts, options.runs, logs)
    return play(chosen, options, logs)


def play(chosen: list[Scenario], options: argparse.Namespace, logs: Path) -> list[dict[str, Any]]:
    """Some scenarios so many times in a row, in one place; a row each."""
    # A short path: the name of a socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mf-", ignore_cleanup_errors=True) as folder:
        try:
            place = Place(Path(folder), say)
            try:
                found = run_all(place, chosen, options.runs, options.first)
            finally:
                place.stop()
        finally:
            for kept in ("logs", "cloud/logs"):
                shutil.copytree(Path(folder, kept), logs, dirs_exist_ok=True)
    for result in (result for results in found.values() for result in results):
        result.log = f"{logs.name}/{result.log}"
    return [page.row(one, found[one.name]) for one in chosen]


def commit() -> str:
    """The checkout's, with -dirty where it has changes; "" outside git."""
    words = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def say(line: str) -> None:
    """Progress, for people."""
    print(f"{datetime.datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)


assert scenarios.__all__

if __name__ == "__main__":
    sys.exit(main())
