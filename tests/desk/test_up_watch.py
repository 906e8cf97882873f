"""`mayfly up --watch` at the desk: who holds a session, and what is left when nobody does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mayfly import cli, idle, names
from mayfly.cloud import CloudError, connect
from mayfly.cloud.http import Retry
from mayfly.commands import up_watch
from mayfly.errors import FailedError
from mayfly.ladder.lives import Again, Grant, Life
from mayfly.ladder.rungs import Place
from mayfly.launch import StoppedError
from mayfly.watch import Watch, held
from tests.conftest import ROOT
from tests.desk.google import PROJECT, Google, stamp
from tests.desk.pulumi_stub import STATE, Pulumi
from tests.running import running
from tests.waiting import wait_until

WATCH = (STATE, names.watch("dev"))
UP = ("up", "--watch", "--yes", "--machine", "a2-ultragpu-8g")
LIMIT_S = 60


def fresh(by: str = "ann") -> bytes:
    return json.dumps({"until": stamp(time.time() + 120), "by": by}).encode()


def test_watch_is_there_while_it_is_held_and_gone_afterwards(google: Google):
    """What it leaves behind would keep the reaper from the next session's leftovers."""
    cloud = connect(PROJECT)

    with Watch(cloud, STATE, "dev", "ann") as watch:
        found = held(cloud, STATE, "dev")
        assert watch.renewed()

    assert found is not None
    assert found.by == "ann"
    assert found.until - time.time() <= idle.WATCH_S + 1
    assert google.objects == {}


def test_watch_is_lost_when_mayfly_down_takes_it_away(google: Google):
    """Two minutes later it would bring the session up again that a user has just ended."""
    with Watch(connect(PROJECT), STATE, "dev", "ann") as watch:
        del google.objects[WATCH]

        assert not watch.renewed()
        assert not watch.renewed(), "nor does it come back"

    assert google.objects == {}


def test_watch_stays_when_the_answer_to_its_write_was_lost(google: Google):
    """It would lose itself over a line that was down for a second, and Google's next preemption
    would end the evaluation of a night."""
    cloud = connect(PROJECT, Retry(tries=2, first_delay_s=0))
    said: list[str] = []
    with Watch(cloud, STATE, "dev", "ann") as watch:
        watch.tell = said.append
        google.lost_answers = 2

        assert watch.renewed()
        assert google.generation(WATCH) == "2", "it went through"
        assert watch.renewed()

        google.lost_answers = 2
        assert watch.renewed()

    assert google.objects == {}, "nor is it left behind"
    assert ["could not be renewed" in line for line in said] == [True, True]


def test_watch_is_lost_when_another_took_its_place(google: Google):
    """The twin: what somebody else of the same name wrote is not ours."""
    with Watch(connect(PROJECT), STATE, "dev", "ann") as watch:
        google.objects[WATCH] = theirs = fresh("ann")

        assert not watch.renewed()

    assert google.objects == {WATCH: theirs}


def test_down_takes_the_watch_away(google: Google, checkout: Path, pulumi: Pulumi):
    google.objects[WATCH] = fresh()

    assert cli.main(["down", "dev", "--yes"]) == 0

    assert WATCH not in google.objects


def test_up_exits_3_when_somebody_watches_the_session_already(
    seeded: Google, checkout: Path, pulumi: Pulumi, capfd
):
    """Two watches would bring up two VMs."""
    seeded.objects[WATCH] = fresh("bob")

    assert cli.main([*UP]) == 3

    assert "bob watches dev already." in capfd.readouterr().err
    assert pulumi.zones() == []
    assert WATCH in seeded.objects


def test_up_watches_when_a_dead_watch_was_left(
    seeded: Google, checkout: Path, pulumi: Pulumi, capfd
):
    """A laptop that lost its power left it; it is nobody's by now."""
    seeded.objects[WATCH] = json.dumps({"until": stamp(time.time() - 5), "by": "bob"}).encode()

    assert cli.main([*UP]) == 1  # the stub makes no VM

    assert "mayfly-dev was gone as soon as it served." in capfd.readouterr().err
    assert WATCH not in seeded.objects


def test_up_asks_for_no_other_vm_when_the_session_was_ended_meanwhile(
    seeded: Google, checkout: Path, pulumi: Pulumi, capfd
):
    """`mayfly down` finds nothing to destroy between two attempts; the next one would serve nobody
    and cost all the same."""
    full = "The zone 'z' does not have enough resources available to fulfill the request."
    said = f"Diagnostics:\n  gcp:compute:Instance (node-vm):\n    error: {full}\n"
    pulumi.up({"says": said, "status": 1}, {"state": ["7"]})
    # The watch is written at the start and before each attempt; `down` comes before the second.
    seeded.before_write += [lambda: None, lambda: None, lambda: seeded.objects.pop(WATCH)]

    assert cli.main([*UP]) == 1

    assert pulumi.zones() == ["us-central1-a"]
    what, meaning, _ = capfd.readouterr().err.strip().splitlines()[-3:]
    assert what == "Somebody has ended dev with `mayfly down`, or watches it now."
    assert meaning == "No VM is there; nothing is billed."
    assert WATCH not in seeded.objects


@pytest.mark.parametrize(("end", "status"), [("Ctrl-C", 0), ("ended", 0), ("down", 1)])
def test_watch_ends_and_leaves_the_session_as_it_is(
    seeded: Google, checkout: Path, pulumi: Pulumi, end: str, status: int
):
    """It holds nothing: Ctrl-C ends the watch only; a session that a user ended stays ended."""
    number = seeded.add_vm("dev", age_s=10, state_bucket=STATE, machine="a2-ultragpu-8g")
    pulumi.kept["stacks"]["dev"] = [number]
    pulumi.up({"state": [number]})
    command = [sys.executable, "-m", "mayfly.cli", *UP]
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with running(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes
    ) as child:
        assert child.stderr is not None
        said = ""
        while "Watching dev;" not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        assert WATCH in seeded.objects
        if end == "down":
            del seeded.objects[WATCH]
        if end in ("down", "ended"):
            seeded.operations = [{"operationType": "delete", "insertTime": stamp(time.time())}]
            seeded.instances.clear()
        else:
            child.send_signal(signal.SIGINT)
        _, rest = child.communicate(timeout=LIMIT_S)

    assert child.returncode == status, rest
    told = {
        "Ctrl-C": f"The watch has ended. mayfly-dev ({number}) is in us-central1-a, RUNNING, at 26",
        "down": "Somebody has ended dev with `mayfly down`, or watches it now.",
        "ended": "dev is over: its VM has ended, and Google did not take it.",
    }
    assert told[end] in rest
    assert wait_until(lambda: WATCH not in seeded.objects, LIMIT_S)
    assert [line for line in pulumi.lines if line.startswith("destroy")] == []


class Cut:
    """A launch over a line that is down, until it has been tried so often."""

    session, vm_name = "dev", "mayfly-dev"

    def __init__(self, until: int) -> None:
        self.until, self.tries = until, 0

    def end(self) -> None:
        self.tries += 1
        if self.tries < self.until:
            raise CloudError(0, "unreachable", "compute: no answer")
        raise StoppedError("It went on.")

    def all(self) -> list[object]:
        raise CloudError(0, "unreachable", "compute: no answer")


@pytest.mark.parametrize("seen", ["lives", "ended"])
def test_watch_ends_as_a_failure_when_it_is_taken_away_whatever_became_of_the_vm(monkeypatch, seen):
    """A script that asked for a watch has none; one code says so, in whichever order it is seen."""
    monkeypatch.setattr(up_watch, "LOOK_EVERY_S", 0.0)
    place = Place(machine="a3-highgpu-8g", zone="us-central1-a", provisioning="spot")
    launch = SimpleNamespace(
        session="dev",
        sight=lambda vm: seen,
        grant=Grant(hours=4.0, budget_usd=None),
        lives=[Life(place=place, began_at=time.time(), usd_per_h=26.0, egress_usd=0.0)],
        left=lambda: "It runs.",
    )
    watch = SimpleNamespace(lost=seen == "lives", renewed=lambda: False)

    with pytest.raises(StoppedError, match="or watches it now") as stopped:
        up_watch.until_it_ends(launch, None, watch)

    assert stopped.value.meaning == "It runs."


def vigil(*renewed: bool) -> SimpleNamespace:
    """One whose watch says so, each time that it is asked."""
    answers = iter(renewed)
    return SimpleNamespace(watch=SimpleNamespace(renewed=lambda: next(answers)))


@pytest.mark.parametrize(("until", "tries", "ends"), [(3, 3, "It went on."), (99, 4, "no answer")])
def test_watch_tries_again_when_the_line_is_down_and_nothing_is_known(
    monkeypatch, until, tries, ends
):
    """What cannot be looked at is looked at later; it does not end the watch of a night."""
    monkeypatch.setattr(up_watch, "FIRST_PAUSE_S", 0.0)
    launch = Cut(until)

    with pytest.raises(FailedError, match=ends):
        up_watch.persistently(vigil(True, True, True, True), launch, Again(1.0, None))

    assert launch.tries == tries


def test_watch_destroys_nothing_more_when_another_brought_the_session_up(monkeypatch):
    """Between two tries a colleague may end it and bring it up: the next try would destroy a VM
    that somebody uses."""
    monkeypatch.setattr(up_watch, "FIRST_PAUSE_S", 0.0)
    launch = Cut(99)
    launch.left = lambda: "It runs."

    with pytest.raises(StoppedError, match="or watches it now"):
        up_watch.persistently(vigil(True, False), launch, Again(1.0, None))

    assert launch.tries == 1
