"""Every stand-in command starts here: it finds its module, runs it and records the run."""

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

RECORD = "/.machine/state/commands.jsonl"
TABLE = "/.machine/lib/stubs.json"
CONFIG = "/.machine/config.json"


def main() -> None:
    """Run the stand-in that argv[0] names; never returns."""
    name = os.path.basename(sys.argv[0])
    module = importlib.import_module(f"stubs.{json.loads(Path(TABLE).read_text())[name]}")
    begun, clock = time.time(), time.monotonic()
    try:
        status = module.main(name, sys.argv[1:])
    except BrokenPipeError:
        status = 141
    except KeyboardInterrupt:
        status = 130
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            status = status or 141
    entry = {
        "t": round(begun, 3),
        "argv": [name, *sys.argv[1:]],
        "exit": status,
        "seconds": round(time.monotonic() - clock, 3),
    }
    with contextlib.suppress(OSError), open(RECORD, "a") as record:  # not where all is read-only
        record.write(json.dumps(entry) + "\n")
    os._exit(status)


def config() -> dict[str, Any]:
    """What this machine is."""
    whole: dict[str, Any] = json.loads(Path(CONFIG).read_text())
    return whole


def fail(text: str, status: int = 1) -> int:
    """One line on stderr."""
    print(text, file=sys.stderr)
    return status
