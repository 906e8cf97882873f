"""The cache: each tool once a machine, whole or not at all."""

import threading

import pytest

from tests.waiting import wait_until
from tools.say import SetupError, still
from tools.store import Slot, cache_dir


@pytest.fixture
def slot(monkeypatch, tmp_path) -> Slot:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Slot("thing", "v1")


def made(text: str = "whole"):
    def make(folder):
        program = folder / "thing"
        program.write_text(text)
        program.chmod(0o755)

    return make


def test_slot_lies_in_the_users_cache_when_it_is_filled(slot, tmp_path):
    """`make test` and `mayfly local` look in the same place."""
    path = slot.fill(made(), "at once")

    assert path == tmp_path / "cache/mayfly/thing/v1/thing"
    assert path.read_text() == "whole"


def test_slot_is_not_filled_again_when_it_is_full(slot):
    """Six minutes, once a machine."""
    slot.fill(made("first"), "at once")

    assert slot.fill(made("second"), "at once").read_text() == "first"


def test_slot_stays_empty_when_making_fails_half_way(slot):
    """Half a program under the right name would be found by everybody for ever."""

    def fails(folder):
        (folder / "thing").write_text("half")
        raise SetupError("no network")

    with pytest.raises(SetupError):
        slot.fill(fails, "at once")

    assert not slot.filled()
    assert not [p for p in (cache_dir() / "thing").iterdir() if p.name != ".lock"]


def test_slot_is_cleared_when_a_killed_setup_left_its_work_behind(slot):
    """A build that was killed leaves gigabytes that nobody else would ever delete."""
    left = cache_dir() / "thing/.v1-killed"
    left.mkdir(parents=True)

    slot.fill(made(), "at once")

    assert not left.exists()


def test_slot_is_filled_once_when_two_setups_come_at_once(slot):
    """`make demo` in one terminal, `make test` in another."""
    calls = []
    begun, go_on = threading.Event(), threading.Event()

    def slowly(folder):
        calls.append(folder)
        begun.set()
        assert go_on.wait(60)
        made()(folder)

    workers = [threading.Thread(target=slot.fill, args=(slowly, "slowly")) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert begun.wait(60)
    go_on.set()
    for worker in workers:
        worker.join(60)

    assert len(calls) == 1
    assert slot.filled()


def test_slot_says_what_takes_how_long_and_where_when_it_is_filled(slot, capsys):
    """Six silent minutes look like a hang."""
    slot.fill(made(), "built in some 6 min")

    said = capsys.readouterr().err
    assert f"thing v1: built in some 6 min, once a machine, into {slot.folder}" in said


def test_still_says_what_it_is_at_when_it_takes_long(capsys):
    """Six minutes without a word look like a hang; and after the end there is nothing to say."""
    said: list[str] = []

    def twice() -> bool:
        said.append(capsys.readouterr().err)
        return "".join(said).count("pulumi v3: at work for 0 s (built in some 6 min)") > 1

    with still("pulumi v3", "built in some 6 min", every_s=0.01):
        wait_until(twice)

    assert not [
        t for t in threading.enumerate() if t.name.startswith("Thread") and "tell" in t.name
    ]


def test_full_slot_is_found_at_once_when_it_is_asked_again(slot):
    """`make` asks each time; it must not notice."""
    calls: list[object] = []
    slot.fill(made(), "at once")

    slot.fill(calls.append, "at once")

    assert calls == []
