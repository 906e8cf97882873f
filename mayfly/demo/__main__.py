"""`python -m mayfly.demo --place DIR`: tell the story in DIR, which is removed at the end.

`mayfly demo` runs this in a group of its own and ends it with itself.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mayfly.demo.stopwatch import Timeline
from mayfly.demo.story import tell_story
from mayfly.errors import FailedError, explained
from mayfly.project import CHECKOUT

Story = Callable[..., dict[str, Any]]


def main(arguments: list[str] | None = None, story: Story = tell_story) -> int:
    """0 when every claim of the story held, 1 otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", type=Path, required=True, help="an empty folder")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, help="a page of the benchmark, written there")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    timeline = Timeline()
    try:
        result = perform(story, options, timeline)
    finally:
        # A second signal would leave the folder behind.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(options.place, ignore_errors=True)
    if options.json:
        print(json.dumps(result, indent=2), flush=True)
    else:
        print(told(result, timeline), flush=True)
    return 0 if result["ok"] else 1


def perform(story: Story, options: argparse.Namespace, timeline: Timeline) -> dict[str, Any]:
    """The story's facts with its verdict and its stages; a failure is told, not raised."""
    error = ""
    facts: dict[str, Any] = {}
    try:
        facts = story(fast=options.fast, place=options.place, timeline=timeline)
        if options.report:
            with timeline.stage("report"):
                write_report(facts["benchmark"], options.place, options.report)
    except KeyboardInterrupt:
        error = "interrupted; everything it had started is gone"
    except Exception as failure:
        if os.environ.get("MAYFLY_DEBUG"):
            traceback.print_exc()
        error = str(explained(failure))
    if error:
        timeline.tell(error)
    stages = [{"name": s.name, "seconds": s.seconds} for s in timeline.stages]
    result = {"ok": not error, "seconds": round(timeline.seconds, 1), "stages": stages, **facts}
    return result | {"error": error} if error else result


def write_report(benchmark: dict[str, Any], place: Path, page: Path) -> None:
    """What a user gets from `mayfly bench --report`. FailedError where it cannot be made."""
    kept = place / "benchmark.json"
    kept.write_text(json.dumps(benchmark))
    command = [sys.executable, str(CHECKOUT / "bench/report.py"), str(kept), "--out", str(page)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise FailedError(f"No report at {page}: {made.stderr.strip()}")


def told(result: dict[str, Any], timeline: Timeline) -> str:
    """The end of the story for people."""
    lines = ["", timeline.chart()]
    if result["ok"]:
        end = result["teardown"]
        rates = [f"{p['concurrent']}: {p['tokens_per_s']['p50']:.0f}" for p in benchmark_of(result)]
        lines += [
            "",
            f"Tokens/s a request, by requests at once: {', '.join(rates)} "
            "(the stand-in's pace, not a GPU's).",
            f"The session ended by itself: {end['reason']} (by {end['ended_by']}).",
            f"It lived {end['vm_seconds']:.0f} s and would have cost ${end['usd']:.2f}; "
            "nothing of it is left, the weights and the foundation are whole.",
        ]
    return "\n".join(lines)


def benchmark_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The benchmark's phases."""
    phases: list[dict[str, Any]] = result["benchmark"]["phases"]
    return phases


if __name__ == "__main__":
    sys.exit(main())
