"""The demo's parts: what it measures, starts, claims and leaves behind."""

import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from mayfly import cli
from mayfly.demo.__main__ import main
from mayfly.demo.crew import Crew
from mayfly.demo.evidence import ClaimError, claim
from mayfly.demo.machine import evidence
from mayfly.demo.stopwatch import Timeline
from mayfly.demo.workshop import LINKED, make_project
from mayfly.errors import FailedError
from mayfly.project import CHECKOUT
from tests.desk import schemas, schemas_launch
from tests.running import running

PHASES = [
    {"concurrent": 1, "tokens_per_s": {"p50": 120}},
    {"concurrent": 2, "tokens_per_s": {"p50": 118}},
]
TEARDOWN = {
    "reason": "idle for 12 s",
    "ended_by": "reaper",
    "resources_left": [],
    "vm_seconds": 60,
    "usd": 0.9,
}


@pytest.fixture(autouse=True)
def _signals():
    """The demo takes over a process of its own; here it runs in ours."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path, limit_s: float = 60) -> str:
    """The text of a file, as soon as it has a whole line."""
    deadline = time.monotonic() + limit_s
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"no {path.name} within {limit_s} s"
        time.sleep(0.02)
    return path.read_text()


def test_timeline_measures_stages_when_they_overlap():
    """The session comes up while the seed is reaped: both durations are real."""
    out = io.StringIO()
    timeline = Timeline(out)
    with timeline.stage("outer"), timeline.stage("inner"):
        pass

    assert [s.name for s in timeline.stages] == ["inner", "outer"]
    assert timeline.chart().index("outer") < timeline.chart().index("inner")
    assert "outer ..." in out.getvalue()


def test_timeline_records_no_stage_when_it_failed():
    """A stage in the list is one that was done."""
    out = io.StringIO()
    timeline = Timeline(out)
    with pytest.raises(FailedError), timeline.stage("weights"):
        raise FailedError("no")

    assert timeline.stages == []
    assert "weights: FAILED after" in out.getvalue()


def test_project_folder_runs_the_checkouts_program_and_leaves_it_alone(tmp_path):
    """Whoever tries the demo must find no change in git afterwards."""
    before = {p: p.read_bytes() for p in CHECKOUT.glob("Pulumi*.yaml")}
    project = make_project(tmp_path, "local-project")

    assert {p: p.read_bytes() for p in CHECKOUT.glob("Pulumi*.yaml")} == before
    assert all((tmp_path / name).resolve() == (CHECKOUT / name).resolve() for name in LINKED)
    assert project.config("demo")["gcp:project"] == "local-project"
    assert project.config("demo")["mayfly:profile"] == "kimi-k2.5"
    assert project.layer("foundation") == "foundation"
    assert "mayfly:idleMinutes" not in project.config("foundation")
    original = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
    assert yaml.safe_load((tmp_path / "Pulumi.yaml").read_text()) == original


def test_crew_tells_progress_when_a_command_takes_long(tmp_path):
    """Half a minute of silence looks like a hang."""
    told: list[str] = []
    crew = Crew(tmp_path / "logs", told.append)
    script = "import time; print('pulling 3 of 64', flush=True); time.sleep(2.5); print('done')"

    assert crew.run("pull", [sys.executable, "-c", script], tmp_path).endswith("done\n")

    assert told == ["  pulling 3 of 64"]


def test_crew_raises_with_the_last_words_when_a_command_fails(tmp_path):
    """The folder with the logs is gone when the user reads the message."""
    crew = Crew(tmp_path / "logs", lambda _: None)
    script = "import sys; print('stockout in us-central1-a', file=sys.stderr); sys.exit(255)"

    with pytest.raises(FailedError, match="stockout in us-central1-a\npulumi-up ended with status"):
        crew.run("pulumi-up", [sys.executable, "-c", script], tmp_path)


def test_crew_gives_up_when_a_command_does_not_end(tmp_path):
    """A demo that hangs is worse than one that fails."""
    crew = Crew(tmp_path / "logs", lambda _: None)
    with pytest.raises(FailedError, match="Waited 0 s for sleep to end"):
        crew.run("sleep", ["sleep", "60"], tmp_path, limit_s=0.3)
    crew.stop_all()


def test_crew_ends_grandchildren_when_it_stops(tmp_path):
    """pulumi's providers are not pulumi."""
    crew = Crew(tmp_path / "logs", lambda _: None)
    crew.start("parent", ["bash", "-c", f"sleep 60 & echo $! >{tmp_path}/pid; wait"], tmp_path)
    pid = int(wait_for(tmp_path / "pid"))
    crew.stop_all()

    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_claim_raises_naming_itself_when_it_does_not_hold():
    """ "The demo failed" helps nobody."""
    with pytest.raises(ClaimError, match="'the weights are whole' failed: model-1 is missing"):
        claim("the weights are whole", False, "model-1 is missing")


def run_main(tmp_path: Path, story, capsys, *words: str):
    place = tmp_path / "place"
    place.mkdir()
    code = main(["--place", str(place), *words], story)
    assert not place.exists()
    return code, capsys.readouterr()


def test_demo_prints_one_json_object_when_asked(tmp_path, capsys):
    """Scripts read stdout; the story belongs on stderr."""

    def story(*, fast, place, timeline):
        with timeline.stage("foundation up"):
            return {"teardown": TEARDOWN, "rest_calls": 100}

    code, (out, err) = run_main(tmp_path, story, capsys, "--json", "--fast")

    result = json.loads(out)
    schemas.check(schemas_launch.DEMO, result)
    assert code == 0
    assert result["ok"] is True
    assert result["stages"][0]["name"] == "foundation up"
    assert result["rest_calls"] == 100
    assert "foundation up ..." in err


def test_demo_exits_1_naming_the_claim_when_one_does_not_hold(tmp_path, capsys):
    """A demo that says "ok" over a failed check would prove nothing."""

    def story(*, fast, place, timeline):
        claim("nothing of the session is left", False, ["disk mayfly-demo"])

    code, (out, err) = run_main(tmp_path, story, capsys, "--json")

    assert code == 1
    assert json.loads(out)["ok"] is False
    assert "'nothing of the session is left' failed: ['disk mayfly-demo']" in err


def test_demo_tells_the_end_when_people_read(tmp_path, capsys):
    """The timeline and the bill are what the demo is for."""

    def story(*, fast, place, timeline):
        with timeline.stage("foundation up"):
            return {"teardown": TEARDOWN, "benchmark": {"phases": PHASES}}

    code, (out, _) = run_main(tmp_path, story, capsys)

    assert code == 0
    assert "idle for 12 s (by reaper)" in out
    assert "would have cost $0.90" in out
    assert "1: 120, 2: 118" in out
    assert "in all" in out


def test_demo_exits_2_before_it_begins_when_the_report_has_no_place(capsys):
    """Three minutes of story for a page that cannot be written are three minutes too many."""
    assert cli.main(["demo", "--report", "nowhere/page.html"]) == 2
    assert "nowhere/page.html: there is no such folder." in capsys.readouterr().err


FAKE = """
import os, subprocess, sys, time
from mayfly.demo.__main__ import main
from mayfly.demo.crew import Crew

def story(*, fast, place, timeline):
    crew = Crew(place / "logs", timeline.tell)
    try:
        crew.start("cloud", ["sleep", "1000"], place)
        # A daemon in a session of its own, as a provider may leave one behind.
        subprocess.Popen(["setsid", "sleep", "1000"], env={})
        with open(os.environ["FAKE_SAYS"], "w") as said:
            print(os.getpid(), place, file=said)
        time.sleep(1000)
    finally:
        crew.stop_all()

sys.exit(main(sys.argv[1:], story))
"""

SUPERVISOR = """
import sys, tempfile
from mayfly.commands import demo
place = tempfile.mkdtemp(prefix="mayfly-demo-test-")
sys.exit(demo.supervise([sys.executable, sys.argv[1], "--place", place]))
"""


def processes_with(mark: str) -> list[str]:
    """Command lines of the live processes whose environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_text(errors="replace") and alive(int(folder.name)):
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_demo_leaves_nothing_when_it_is_ended(tmp_path, number):
    """A local cloud that outlives its demo holds ports, memory and disk, unseen."""
    script, says = tmp_path / "fake.py", tmp_path / "says"
    script.write_text(FAKE)
    mark = f"MAYFLY_TEST_MARK={tmp_path}"
    environment = dict(os.environ) | {"FAKE_SAYS": str(says), "MAYFLY_TEST_MARK": str(tmp_path)}
    command = [sys.executable, "-c", SUPERVISOR, str(script)]
    with running(command, env=environment, start_new_session=True) as supervisor:
        teller, place = wait_for(says).split()
        assert len(processes_with(mark)) >= 3
        supervisor.send_signal(number)
        supervisor.wait(60)

    deadline = time.monotonic() + 60
    while (processes_with(mark) or Path(place).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(mark) == []
    assert not alive(int(teller))
    assert not Path(place).exists()
    assert supervisor.returncode in (130, -signal.SIGKILL)


def record(*commands: tuple[list[str], int], serial: str = "") -> dict:
    return {"commands": [{"t": 0, "argv": a, "exit": e} for a, e in commands], "serial": serial}


APT = ["apt-get", "install", "-y", "/var/cache/mayfly/nvidia-utils-580_580.159_amd64.deb", "/x.deb"]
REMOVING = "Nov 23 mayfly-demo: startup-script: mayfly gib: INFO removing /usr/local/gib\n"


def test_evidence_is_found_when_the_machine_changed_itself():
    """The demo shows the upgrade and the removal, not only that it ended well."""
    found = evidence(record((APT, 0), (["ldconfig"], 0), serial=REMOVING))

    assert found.driver_upgrade == ("nvidia-utils-580_580.159",)
    assert found.gib_removal == ("/usr/local/gib",)


@pytest.mark.parametrize(
    "machine",
    [
        record((["nvidia-smi"], 0), (["ldconfig"], 0), serial="mayfly gib: INFO no gIB here\n"),
        record((APT, 100), (["ldconfig"], 1), serial=REMOVING),
        record((["apt-get", "install", "ubuntu-keyring"], 0)),
    ],
)
def test_evidence_is_empty_when_the_machine_did_nothing(machine):
    """The twin: a clean machine, or a failed upgrade, must not look upgraded."""
    found = evidence(machine)

    assert (found.driver_upgrade, found.gib_removal) == ((), ())
