"""`mayfly logs` answers, also when SSH does not work: what is it doing, why does it not serve?"""

import threading
import time

import pytest

from mayfly import cli
from mayfly.commands import logs
from tests.desk.google import Google
from tests.waiting import wait_until as until

NAME = "mayfly-dev"
CONSOLE = """[    0.000000] Linux version 6.8.0
Nov 23 08:00:00 mayfly-dev startup-script: mayfly engine: done in 2.6 s
  a line without a stamp
Nov 23 09:30:00 mayfly-dev startup-script: mayfly weights: started
  another
"""


def test_logs_shows_the_console_and_the_last_word_when_a_session_starts(
    google: Google, checkout, capsys
):
    """stdout is the console and nothing else: it may be piped."""
    google.add_vm("dev")
    google.serial[NAME] = CONSOLE
    google.say("dev", phase="weights", message="12 of 64 shards, 310 MB/s, 4 min left")

    assert cli.main(["logs"]) == 0

    out, err = capsys.readouterr()
    assert out.splitlines() == [" ".join(line.split()) for line in CONSOLE.splitlines()]
    assert err == "== dev: weights: 12 of 64 shards, 310 MB/s, 4 min left\n"


def test_logs_shows_the_seed_when_asked_for_it(google: Google, checkout, capsys):
    """A session may run beside it."""
    google.add_vm("dev")
    google.add_vm("seed", layer="seed")
    google.serial["mayfly-seed"] = "the seed's\n"
    google.serial[NAME] = "the session's\n"

    assert cli.main(["logs", "--seed"]) == 0
    assert capsys.readouterr().out == "the seed's\n"
    assert cli.main(["logs", "seed"]) == 0
    assert capsys.readouterr().out == "the seed's\n"
    assert cli.main(["logs"]) == 0
    assert capsys.readouterr().out == "the session's\n"


def test_logs_follows_until_the_vm_ends_when_asked_to(google: Google, checkout, capfd):
    """Each line once, also one that comes in two pieces; the progress beside it."""
    vm_id = google.add_vm("seed", layer="seed")
    google.say("seed", phase="seeding", message="1 of 4 files, 310 MB/s, 2 min left")
    google.serial["mayfly-seed"] = "one\ntw"
    shown: list[str] = []

    def go_on() -> None:
        def has(text: str) -> bool:
            shown.append("".join(capfd.readouterr()))
            return text in "".join(shown)

        until(lambda: has("2 min left"), 20)
        with google.lock:
            google.serial["mayfly-seed"] += "o\nthree"
        until(lambda: has("two"), 20)
        google.instances[vm_id]["status"] = "TERMINATED"

    later = threading.Thread(target=go_on)
    later.start()
    code = cli.main(["logs", "--seed", "-f"])
    later.join()

    said = "".join([*shown, *capfd.readouterr()])
    assert code == 0
    assert [said.count(f"{line}\n") for line in ("one", "two", "three")] == [1, 1, 1]
    assert "== 1 of 4 files, 310 MB/s, 2 min left" in said
    assert "== mayfly-seed has ended." in said


def test_logs_goes_on_when_google_does_not_answer_for_a_moment(google: Google, checkout, capfd):
    """Who follows for half an hour meets a 503."""
    vm_id = google.add_vm("dev")
    google.serial[NAME] = "one\n"

    def fail_then_end() -> None:
        until(lambda: "one" in capfd.readouterr().out, 20)
        with google.lock:
            google.fail = [503] * 4
        until(lambda: "no answer, asking again" in capfd.readouterr().err, 30)
        google.instances[vm_id]["status"] = "TERMINATED"

    later = threading.Thread(target=fail_then_end)
    later.start()

    assert cli.main(["logs", "-f"]) == 0
    later.join()


def test_logs_shows_a_console_harmlessly_when_it_holds_escapes(google: Google, checkout, capsys):
    """Whoever writes to the VM's console must not write to the user's terminal."""
    google.add_vm("dev")
    google.serial[NAME] = "\x1b]0;owned\x07\x1b[2Jred\rover\u202e\n"

    assert cli.main(["logs"]) == 0

    out = capsys.readouterr().out
    assert not [c for c in "\x1b\x07\r\u202e" if c in out]
    assert "red" in out


@pytest.mark.parametrize("words", [[], ["--follow"]], ids=["once", "follow"])
def test_logs_begins_late_when_told_since_when(words, google: Google, checkout, capsys):
    """An hour of boot is not what somebody looks for; nor who goes on looking."""
    google.instances[google.add_vm("dev")]["status"] = "TERMINATED" if words else "RUNNING"
    now = time.time()
    old, new = (time.strftime("%b %d %H:%M:%S", time.gmtime(now - age)) for age in (7200, 60))
    google.serial[NAME] = f"boot\n{old} m old\n its second line\n{new} m new\n its second\n"

    assert cli.main(["logs", "--since", "10m", *words]) == 0

    assert capsys.readouterr().out == f"{new} m new\nits second\n".replace("  ", " ")


def test_stamp_is_of_last_year_when_it_would_lie_ahead():
    """On New Year's Day the console speaks of December."""
    now = 1_767_225_600.0  # 2026-01-01 00:00 UTC

    assert logs.stamp("Dec 31 23:59:00 m text", now) == now - 60
    assert logs.stamp("no stamp", now) is None
    assert logs.stamp("Feb 30 00:00:00 m text", now) is None


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["logs", "other"], ["No VM of 'other' in p-for-tests.", "VMs there: a (session), b (ses"]),
        (["logs", "--seed"], ["No seed runs in p-for-tests.", "A console goes with its VM."]),
        (["logs"], ["Which session?", "Try: mayfly status"]),
        (["logs", "--since", "soon"], ["--since soon: it must be a number and s, m, h or d."]),
        (["logs", "Bad_Name"], ["'Bad_Name' cannot be a session"]),
    ],
)
def test_logs_exits_2_naming_what_there_is_when_there_is_no_such_vm(
    google: Google, checkout, capsys, words, lines
):
    """One message; nothing was attempted."""
    google.add_vm("a")
    google.add_vm("b")

    assert cli.main(words) == 2

    err = capsys.readouterr().err
    for line in lines:
        assert line in err


def test_logs_exits_1_when_google_refuses(google: Google, checkout, capsys):
    """ "You may not look" must not read as "there is nothing"."""
    google.add_vm("dev")
    google.fail, google.fail_reason = [403], "forbidden"

    assert cli.main(["logs"]) == 1
    assert "403 forbidden" in capsys.readouterr().err
