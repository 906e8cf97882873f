"""The demo end to end: the real engine, the real state bucket, a machine that really boots."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import jsonschema
import pytest

from tests.bench.drawn import problems
from tests.bench.results import SCHEMA
from tests.page import crew
from tests.running import running

ROOT = Path(__file__).resolve().parents[2]
FAST_LIMIT_S = 400
MARK = "MAYFLY_TEST_MARK"


def processes_of(place: Path) -> list[str]:
    """Command lines of the live processes that came from a demo in `place`.

    A machine's processes have an environment of their own, but the folder on their command line.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
            environment = (folder / "environ").read_text(errors="replace")
        except OSError:
            continue  # it ended, or it is not ours
        if f"{MARK}={place}" in environment or f"{place}/" in words:
            found.append(words)
    return found


def git_status() -> str:
    command = ["git", "-C", str(ROOT), "status", "--porcelain"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def start(tmp_path: Path, *words: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """The demo with a folder for temporary files of its own."""
    environment = dict(os.environ) | {MARK: str(tmp_path), "TMPDIR": str(tmp_path)}
    return running(
        [sys.executable, "-m", "mayfly.cli", "demo", "--fast", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture
def place():
    """A short path: sockets have room for 107 bytes. What is left in it is a leak."""
    with tempfile.TemporaryDirectory(prefix="mf-") as name:
        yield Path(name)


def assert_nothing_left(place: Path, before: str) -> None:
    deadline = time.monotonic() + 60
    while processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(place) == []
    assert [p.name for p in place.iterdir() if p.name.startswith("mayfly")] == []
    assert git_status() == before


@pytest.mark.timeout(FAST_LIMIT_S + 60)
def test_demo_tells_the_whole_story_when_nothing_goes_wrong(place):
    """From nothing to gone: the one test that no part of mayfly can break unseen."""
    before = git_status()
    began = time.monotonic()
    with start(place, "--json", "--report", str(place / "report.html")) as demo:
        out, err = demo.communicate(timeout=FAST_LIMIT_S)
    wall_s = time.monotonic() - began

    assert demo.returncode == 0, err[-3000:]
    result = json.loads(out)
    assert result["ok"] is True
    assert abs(wall_s - result["seconds"]) < 60
    assert len(result["stages"]) >= 6
    check_outputs(result["outputs"])
    check_teardown(result["teardown"])
    assert [s for s in ("update", "destroy") if s not in result["state_history"]] == []
    assert result["rest_calls"] >= 40
    assert result["reaper_pid"] not in (0, os.getpid(), demo.pid)
    assert all(c["ok"] for c in result["inference"]["checks"])
    assert result["benchmark"]["errors"] == 0
    assert all(phase["ttft_ms"]["p99"] > 0 for phase in result["benchmark"]["phases"])
    check_report(place / "report.html", result["benchmark"])
    assert_nothing_left(place, before)


def check_report(path: Path, benchmark: dict) -> None:
    """In a real browser: every picture drawn, the old way's figures held apart from the demo's."""
    jsonschema.validate(benchmark, SCHEMA)
    assert benchmark["session"]["usd"] > 0
    with crew.browsing() as browser:
        page = browser.new_page()
        page.goto(path.as_uri())
        assert page.locator("figure").count() == 4
        assert problems(page) == []
        assert "no: a stand-in's pace on this machine, not a GPU's" in page.content()


def check_outputs(outputs: dict) -> None:
    assert outputs["endpoint_url"].startswith("http://127.0.0.1:")
    assert outputs["api_key"] == "[secret]"
    for name in ("connect_command", "ssh_command", "deadline", "hourly_usd"):
        assert outputs[name]


def check_teardown(teardown: dict) -> None:
    assert "idle" in teardown["reason"]
    assert teardown["resources_left"] == []
    assert teardown["vm_seconds"] > 0
    assert teardown["usd"] > 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (r" gcp:\w+:", signal.SIGINT),  # pulumi, its host and its providers
        (r"building the engine|weights: started|of \d+ files", signal.SIGKILL),  # a machine, too
    ],
)
def test_demo_leaves_nothing_when_it_is_ended_in_the_middle(place, moment, number):
    """Ctrl-C and a crash come when everything runs at once."""
    before = git_status()
    with start(place) as demo:
        assert demo.stderr is not None
        seen = next((line for line in demo.stderr if re.search(moment, line)), "")
        assert seen, "the story ended before the moment came"
        assert len(processes_of(place)) > 5
        demo.send_signal(number)
        demo.communicate(timeout=90)

    assert demo.returncode in (1, -signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(place.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_nothing_left(place, before)
