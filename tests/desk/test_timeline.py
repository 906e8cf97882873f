"""What `pulumi up` and `mayfly logs -f` tell of a start, as it happens."""

import json

import pytest

from mayfly.timeline import QUIET_S, Teller


def stage(name, start, end=None, ok=None, size=None):
    def at(second):
        return f"2026-11-23T08:00:{second:02}.000Z"

    ended = None if end is None else at(end)
    return {"stage": name, "start": at(start), "end": ended, "bytes": size, "ok": ok}


class Listener:
    """A clock to turn and the lines that were told."""

    def __init__(self):
        self.now, self.lines = 1000.0, []
        self.teller = Teller(self.lines.append, lambda: self.now)

    def hear(self, *stages, message="", after_s=1.0):
        """What is told of this claim, after_s seconds later."""
        self.now += after_s
        before = len(self.lines)
        self.teller.tell(json.dumps(stages), message)
        return self.lines[before:]


@pytest.fixture
def listener():
    return Listener()


def test_teller_names_what_still_runs_when_a_stage_ends(listener):
    """Stages run side by side: the one that is waited for is the one to look at."""
    both = (stage("weights", 0), stage("serve", 1))

    assert listener.hear(*both) == ["weights: started", "serve: started"]
    ended = stage("weights", 0, 50, True, 595_150_000_000)
    assert listener.hear(ended, both[1]) == [
        "weights: done in 50.0 s, 595.15 GB at 11,903 MB/s; still running: serve"
    ]
    assert listener.hear(ended, stage("serve", 1, 59, True)) == ["serve: done in 58.0 s"]


def test_teller_shows_megabytes_when_a_stage_moved_few(listener):
    """0.00 GB at 0 MB/s says nothing."""
    assert listener.hear(stage("engine", 0, 4, True, 2_400_000)) == [
        "engine: done in 4.0 s, 2.4 MB at 1 MB/s"
    ]


def test_teller_breaks_a_silence_of_a_minute_when_stages_run(listener):
    """A quiet terminal beside eight GPUs looks like a machine that hangs."""
    running = stage("serve", 0)
    listener.hear(running)

    assert listener.hear(running, after_s=QUIET_S - 2) == []
    assert listener.hear(running, after_s=2) == ["still running: serve (45 s)"]
    assert listener.hear(running, after_s=1) == []
    assert listener.hear(running, message="vLLM compiles", after_s=30) == ["vLLM compiles"]
    assert listener.hear(running, message="vLLM compiles", after_s=QUIET_S) == [
        "still running: serve (121 s)"
    ]


def test_teller_breaks_the_silence_when_nothing_was_told_yet(listener):
    """The minutes before the first word are the most frightening ones."""
    assert listener.hear(after_s=QUIET_S) == ["the VM has not told of any stage yet"]


def test_teller_is_quiet_when_all_is_done(listener):
    """`mayfly logs -f` follows a session for hours."""
    done = stage("check", 0, 3, True)
    listener.hear(done)

    assert listener.hear(done, after_s=3600) == []


def test_teller_tells_a_stage_again_when_it_runs_a_second_time(listener):
    """After a reboot the driver's stage comes once more."""
    first = stage("driver", 0, 30, True)
    listener.hear(first)

    assert listener.hear(first, stage("driver", 40)) == ["driver: started"]


def test_quiet_is_less_than_the_minute_that_is_promised():
    """Looks are up to 3 s apart, and one may have to be asked again."""
    assert QUIET_S <= 50
