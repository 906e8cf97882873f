"""The runner: side by side where nothing forces an order, and a failure that says why."""

import time

import pytest

from startup import paths, run, words
from startup.run import Stage


@pytest.fixture
def scripts(machine, tmp_path):
    """write(name, body) makes a stage's script; run(*stages) runs them."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    machine.stub("systemctl")

    class Scripts:
        def __init__(self):
            self.folder = folder

        def write(self, name, body):
            (folder / name).write_text(f"set -euo pipefail\n{body}\n")

        def run(self, *stages):
            self.ready = []
            return run.run_layer(stages, folder, lambda: self.ready.append(words.phase()))

    return Scripts()


def serve():
    words.set_phase("serving", "it answers")
    paths.write(paths.run_dir() / "told", "")


@pytest.fixture(autouse=True)
def _path(machine, monkeypatch):
    monkeypatch.setenv("PATH", machine.environment()["PATH"])


def test_runner_runs_stages_side_by_side_when_nothing_forces_an_order(scripts, machine):
    """Driver, engine and weights one after the other are ten minutes of eight GPUs."""
    meet = machine.root / "meet"
    meet.mkdir()
    # Each ends only when the other has started: in sequence they would wait for ever.
    wait_for = "while [[ ! -e {} ]]; do /bin/sleep 0.02; done"
    for me, other in (("a", "b"), ("b", "a")):
        scripts.write(me, f"touch {meet / me}; {wait_for.format(meet / other)}")

    stages = (Stage("a", "a", "driver", 20), Stage("b", "b", "weights", 20))

    assert scripts.run(*stages) == 0


def test_runner_waits_for_what_a_stage_needs_when_it_has_needs(scripts, machine):
    """vLLM before its weights would die at once."""
    order = machine.root / "order"
    scripts.write("first", f"echo first >>{order}")
    scripts.write("then", f"echo then >>{order}")

    status = scripts.run(
        Stage("then", "then", "loading", 20, after=("first",)),
        Stage("first", "first", "weights", 20),
    )

    assert status == 0
    assert order.read_text() == "first\nthen\n"


def test_runner_tells_phase_and_timeline_when_stages_come_and_go(scripts, phases, timeline):
    """`pulumi up` shows exactly this while it waits."""
    scripts.write("a", 'echo 5000000 >"$MAYFLY_ROOT/run/mayfly/bytes/$MAYFLY_STAGE"')
    scripts.write("b", "echo hello")

    scripts.run(
        Stage("driver", "a", "driver", 20), Stage("weights", "b", "weights", 20, after=("driver",))
    )

    assert phases() == ["driver", "weights"]
    first, second = timeline()
    assert (first["stage"], first["bytes"], first["ok"]) == ("driver", 5000000, True)
    assert (second["stage"], second["bytes"], second["ok"]) == ("weights", None, True)
    assert first["start"] <= first["end"] <= second["start"] <= second["end"]
    assert first["start"].endswith("Z")
    assert "hello" in (paths.log_dir() / "weights.log").read_text()


def test_runner_says_the_stages_own_reason_when_it_fails(scripts, google, phases, timeline):
    """The plain line of the stage is worth more than a trace."""
    scripts.write("a", 'echo "no room" >"$MAYFLY_ROOT/run/mayfly/why/$MAYFLY_STAGE"; exit 1')

    assert scripts.run(Stage("ram", "a", "weights", 20)) == 1
    assert google.guest["message"] == "stage ram failed: no room"
    assert phases()[-1] == "failed"
    assert timeline()[-1]["ok"] is False


def test_runner_quotes_the_last_lines_when_a_stage_dies_without_a_reason(scripts, google):
    """A syntax error or a kill leaves no reason; its last words are the next best."""
    scripts.write("a", "echo one; echo two; exit 3")

    scripts.run(Stage("gib", "a", "driver", 20))

    assert google.guest["message"] == "stage gib failed: exit status 3; its last lines: one | two"


def test_runner_ends_a_stage_and_its_children_when_it_takes_too_long(scripts, google, machine):
    """A hung pull must not hold the machine until its deadline."""
    child = machine.root / "child"
    scripts.write("a", f"/bin/sleep 60 & echo $! >{child}; wait")
    began = time.monotonic()

    status = scripts.run(Stage("weights", "a", "weights", 0.5))

    assert status == 1
    assert time.monotonic() - began < 20
    assert "stage weights took longer than its 0 s" in google.guest["message"]
    with pytest.raises(ProcessLookupError):
        _wait_gone(int(child.read_text()))


def _wait_gone(pid: int) -> None:
    """ProcessLookupError once nothing but a zombie is left of it."""
    for _ in range(200):
        state = paths.read(paths.Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        if not state or state[0] == "Z":
            raise ProcessLookupError(pid)
        time.sleep(0.05)


def test_runner_stops_the_others_when_one_fails(scripts, phases, timeline):
    """What still pulls 500 GB for a start that has failed only costs."""
    scripts.write("bad", "exit 1")
    scripts.write("long", "/bin/sleep 60")
    began = time.monotonic()

    stages = (Stage("long", "long", "weights", 60), Stage("bad", "bad", "driver", 60))

    assert scripts.run(*stages) == 1
    assert time.monotonic() - began < 20
    assert phases()[-1] == "failed"
    assert [entry["stage"] for entry in timeline()] == ["bad"]  # the other did not fail


def test_runner_reboots_when_a_stage_asks_for_it(scripts, machine, phases):
    """`rebooting` is what keeps the reaper from taking the silence for death."""
    scripts.write("a", "exit 75")

    assert scripts.run(Stage("driver", "a", "driver", 20)) == 0
    assert phases()[-1] == "rebooting"
    assert machine.calls("systemctl") == ["systemctl reboot"]


def test_runner_says_why_it_reboots_when_the_stage_has_said_so(scripts, google):
    """Three minutes of waiting want a reason."""
    scripts.write(
        "a", 'echo "driver 570 is in use" >"$MAYFLY_ROOT/run/mayfly/reboot-planned"; exit 75'
    )

    scripts.run(Stage("driver", "a", "driver", 20))

    assert google.guest["message"] == "rebooting: driver 570 is in use"


def test_runner_says_that_it_failed_when_the_machine_does_not_reboot(scripts, machine, phases):
    """`rebooting` counts as starting: until start_s nobody would look."""
    machine.stub("systemctl", exit_status=1)
    scripts.write("a", "exit 75")

    assert scripts.run(Stage("driver", "a", "driver", 20)) == 1
    assert phases()[-2:] == ["rebooting", "failed"]


def test_runner_ends_a_stage_that_goes_silent_when_it_takes_too_long(scripts, google):
    """Without anything to read from it, its limit must still hold."""
    scripts.write("a", "exec >&- 2>&-; /bin/sleep 60")

    assert scripts.run(Stage("weights", "a", "weights", 0.5)) == 1
    assert "stage weights took longer than its 0 s" in google.guest["message"]


def test_runner_reports_the_failure_when_another_stage_asks_for_a_reboot(scripts, machine, phases):
    """A reboot would hide why it failed, and fail again."""
    scripts.write("a", "exit 75")
    scripts.write("b", "exit 1")
    both = (Stage("driver", "a", "driver", 20), Stage("gib", "b", "driver", 20))

    for _ in range(3):  # either may come first; a failure seen is never hidden
        status = scripts.run(*both)
        assert (status, phases()[-1]) in ((1, "failed"), (0, "rebooting"))


def test_runner_goes_on_when_an_optional_stage_fails(scripts, google, phases, timeline):
    """Kernel caches save a minute; a start without them is still a start."""
    scripts.write("bad", 'echo "a foreign cache" >"$MAYFLY_ROOT/run/mayfly/why/caches"; exit 1')
    scripts.write("good", "true")

    status = scripts.run(
        Stage("caches", "bad", "weights", 20, optional=True),
        Stage("serve", "good", "loading", 20, after=("caches",)),
    )

    assert status == 0
    assert "failed" not in phases()
    assert google.guest["message"] == "stage caches failed: a foreign cache; going on without it"
    assert [(e["stage"], e["ok"]) for e in timeline()] == [("caches", False), ("serve", True)]


def test_runner_never_reboots_when_the_stage_that_asks_is_optional(scripts, machine):
    """Three minutes of eight GPUs for something that nobody needs."""
    scripts.write("a", "exit 75")

    assert scripts.run(Stage("caches", "a", "weights", 20, optional=True)) == 0
    assert not machine.calls("systemctl")


def test_runner_says_that_it_serves_before_its_late_stages_run(scripts, phases, timeline, google):
    """Nobody shall wait for what only helps the next start, nor lose the endpoint over it."""
    scripts.write("check", "true")
    scripts.write("save", '[[ -e "$MAYFLY_ROOT/run/mayfly/told" ]]; echo no room >&2; exit 1')

    status = run.run_layer(
        (
            Stage("save", "save", "serving", 20, after=("check",), optional=True, late=True),
            Stage("check", "check", "checking", 20),
        ),
        scripts.folder,
        serve,
    )

    assert status == 0
    assert phases() == ["checking", "serving"]
    assert google.guest["message"] == "it answers"
    assert [(e["stage"], e["ok"]) for e in timeline()] == [("check", True), ("save", False)]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ('echo "shard 7 is wrong" >"$MAYFLY_ROOT/run/mayfly/why/weights"; exit 1', "shard 7"),
        ("exit 75", None),
    ],
)
def test_runner_stops_the_unit_when_another_stage_ends_the_start(
    scripts, machine, google, phases, timeline, other, reason
):
    """vLLM would wait for shards that never come, and its own death would hide why."""
    up = machine.root / "up"
    scripts.write("serve", f"touch {up}; /bin/sleep 60")
    scripts.write("weights", f"while [[ ! -e {up} ]]; do /bin/sleep 0.02; done; {other}")
    began = time.monotonic()

    status = scripts.run(
        Stage("weights", "weights", "weights", 60),
        Stage("serve", "serve", "loading", 60, unit="mayfly-vllm.service"),
    )

    assert time.monotonic() - began < 20
    assert machine.calls("systemctl")[0] == "systemctl stop mayfly-vllm.service"
    assert [entry["stage"] for entry in timeline()] == ["weights"]
    assert not scripts.ready
    if reason:
        assert (status, phases()[-1]) == (1, "failed")
        assert google.guest["message"] == "stage weights failed: shard 7 is wrong"
    else:
        assert (status, phases()[-1]) == (0, "rebooting")


def test_runner_leaves_the_unit_running_when_its_stage_is_done(scripts, machine):
    """A failed check is looked into with the engine still there."""
    scripts.write("serve", "true")
    scripts.write("check", "exit 1")

    stages = (
        Stage("serve", "serve", "loading", 20, unit="mayfly-vllm.service"),
        Stage("check", "check", "checking", 20, after=("serve",)),
    )

    assert scripts.run(*stages) == 1
    assert not machine.calls("systemctl")


def test_timeline_keeps_what_was_before_when_the_machine_reboots(scripts, timeline):
    """The driver's minutes belong to the start that the user waited for."""
    scripts.write("a", "true")
    scripts.run(Stage("driver", "a", "driver", 20))
    words.Timeline().start("weights")  # and then the machine goes down

    scripts.run(Stage("gib", "a", "driver", 20))

    assert [(e["stage"], e["ok"]) for e in timeline()] == [("driver", True), ("gib", True)]


def test_session_starts_vllm_before_its_shards_when_its_graph_is_read():
    """Imports beside the pull, not after it, are a minute of a start of four."""
    needs = {stage.name: set(stage.after) for stage in run.SESSION}

    def all_needs(name):
        return needs[name].union(*(all_needs(each) for each in needs[name]))

    assert "config" in all_needs("serve")
    assert "weights" not in all_needs("serve")
    assert "weights" in all_needs("check")


@pytest.mark.parametrize("layer", ["session", "seed"])
def test_layer_has_no_stage_that_waits_for_ever_when_its_graph_is_read(layer, project_root):
    """A name that no stage has would wait until start_s."""
    stages = run.LAYERS[layer]
    names = [stage.name for stage in stages]
    late = {stage.name for stage in stages if stage.late}

    assert len(set(names)) == len(names)
    for stage in stages:
        assert set(stage.after) <= set(names) - {stage.name}
        assert (project_root / "startup" / stage.script).exists()
        assert stage.late or not late & set(stage.after)  # what is late can hold nothing up
        assert stage.optional or not stage.late
