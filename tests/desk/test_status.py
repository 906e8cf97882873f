"""`mayfly status` answers: what costs money now, and when does it stop by itself?"""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mayfly import cli, vms
from mayfly.spans import minutes
from tests.desk import schemas
from tests.desk.google import Google, stamp


def status(capsys) -> list[dict]:
    assert cli.main(["status", "--json"]) == 0
    found: list[dict] = json.loads(capsys.readouterr().out)["sessions"]
    return found


def test_status_shows_rate_meter_and_end_when_a_session_serves(google: Google, checkout, capsys):
    """The three numbers that keep a user from looking into the console."""
    google.add_vm("dev", age_s=3600)
    google.serving("dev", idle_s=300)

    (row,) = status(capsys)

    assert (row["session"], row["phase"], row["zone"]) == ("dev", "serving", "us-central1-a")
    assert row["verdict"] == "idle"
    assert row["hourly_usd"] == 26
    assert 25.9 < row["cost_usd"] < 26.2
    assert 3600 <= row["age_s"] < 3660
    assert abs(vms.seconds(row["ends_at"]) - (time.time() + 900)) < 30
    assert abs(vms.seconds(row["deadline"]) - (time.time() + 10800)) < 30


def test_status_shows_what_the_machine_does_now_when_it_says_so(google: Google, checkout, capsys):
    """A session that generates for somebody else must not be taken for a forgotten one."""
    google.add_vm("dev", started_by="ann@example.com")
    google.serving("dev")
    google.say("dev", load='{"tok_s": 134.6, "running": 2, "waiting": 1}')
    start = {"stage": "driver", "start": "2026-11-23T20:00:00.000Z", "bytes": None}
    end = {"end": "2026-11-23T20:01:30.500Z", "ok": True}
    google.say("dev", timeline=json.dumps([start | end]))

    (row,) = status(capsys)

    assert row["started_by"] == "ann@example.com"
    assert (row["tok_s"], row["requests_running"], row["requests_waiting"]) == (134.6, 2, 1)
    assert row["timeline"] == [
        {
            "stage": "driver",
            "started_at": "2026-11-23T20:00:00Z",
            "ended_at": "2026-11-23T20:01:30Z",
            "took_s": 90.5,
            "bytes": None,
            "ok": True,
        }
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"load": "null"},
        {"load": '{"tok_s": "\x1b[2J", "running": 0, "waiting": 0}'},
        {"load": '{"tok_s": 1e999, "running": 0, "waiting": 0}'},
        {"load": '{"tok_s": 1.0, "running": -1, "waiting": 0}'},
        {"load": '{"tok_s": 1.0, "running": 1, "waiting": 0}', "phase": "checking"},
        {
            "load": '{"tok_s": 1.0, "running": 1, "waiting": 0}',
            "heartbeat": stamp(time.time() - 400),
            "active_at": stamp(time.time() - 400),
        },
    ],
)
def test_status_shows_no_speed_when_the_claim_is_old_or_malformed(
    google: Google, checkout, capsys, said
):
    """A made-up or an old figure would look like work."""
    google.add_vm("dev")
    google.serving("dev")
    google.say("dev", **said)

    (row,) = status(capsys)

    assert row["tok_s"] is None


def test_status_says_that_the_rate_is_old_when_it_is(google: Google, checkout, capsys):
    """The meter is only as good as its rate."""
    google.add_vm("dev", rate_source="a table", rate_date="2020-01-01")
    google.add_vm("new", rate_source="a table", rate_date=stamp(time.time())[:10])

    assert cli.main(["status"]) == 0

    out = " ".join(capsys.readouterr().out.split())
    assert "dev: The rate 26.00 USD/h is" in out
    assert "new: The rate" not in out


@contextmanager
def watching(*words: str, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    """`mayfly status --watch` on this Google, until the block ends."""
    command = [sys.executable, "-m", "mayfly.cli", "status", "--watch", *words]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watch_prints_a_line_a_look_until_it_is_interrupted(google: Google, checkout):
    """For scripts: one object a line, and Ctrl-C is no failure."""
    google.add_vm("dev")
    google.serving("dev")

    with watching("--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        google.instances.clear()
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    for look in (first, second):
        schemas.check(schemas.WATCH, look)
    assert [row["session"] for row in first["sessions"]] == ["dev"]
    assert (second["sessions"], second["trouble"]) == ([], None)
    assert (process.returncode, err) == (0, b"")


def test_watch_says_so_and_goes_on_when_google_does_not_answer(google: Google, checkout):
    """A laptop that was asleep must not have lost its watch."""
    google.add_vm("dev")
    google.serving("dev")

    with watching(stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        google.fail = [503] * 4
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert "dev, serving, serving and active, ends in 20 min, $4.3" in first
    assert sum("no answer, asking again" in line for line in lines) == 1
    assert process.returncode == 0


def test_watch_redraws_when_it_is_on_a_terminal(google: Google, checkout):
    """People see one table that lives, with the stages below it."""
    google.add_vm("dev")
    google.say("dev", phase="weights", heartbeat=stamp(time.time()))
    stage = {"stage": "driver", "start": "2026-11-23T20:00:00.000Z", "bytes": None}
    end = {"end": "2026-11-23T20:01:30.500Z", "ok": True}
    google.say("dev", timeline=json.dumps([stage | end]))
    ours, theirs = pty.openpty()
    os.environ.update(TERM="xterm", COLUMNS="160", LINES="40")

    try:
        with watching(stdout=theirs) as process:
            shown = b""
            while b"Ctrl-C leaves" not in shown:
                shown += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)

    assert "weights" in shown.decode()
    assert "dev: driver 90 s" in shown.decode()
    assert process.returncode == 0


def claim(mode: str, tokens: int) -> str:
    return json.dumps({"mode": mode, "max_model_len": tokens, "served_model": "kimi-k2.5"})


def test_status_shows_how_far_an_endpoint_goes_when_it_serves(google: Google, checkout, capsys):
    """A prompt that does not fit is refused; better known before."""
    google.add_vm("dev")
    google.serving("dev")
    google.say("dev", endpoint=claim("long", 262144))

    (row,) = status(capsys)
    assert (row["mode"], row["max_model_len"]) == ("long", 262144)
    assert cli.main(["status"]) == 0
    assert "dev: up to 262,144 tokens, mode long" in capsys.readouterr().out


def test_status_says_why_an_endpoint_offers_less_when_it_fell_back(
    google: Google, checkout, capsys
):
    """Who asked for long context must not find out by a 400."""
    google.add_vm("dev")
    google.serving("dev")
    why = "long context failed its check (needle: not found at 67K): serving 32,768 tokens instead"
    google.say("dev", endpoint=claim("safe", 32768), message=why)

    (row,) = status(capsys)
    assert (row["mode"], row["max_model_len"], row["message"]) == ("safe", 32768, why)
    assert cli.main(["status"]) == 0
    assert f"dev: {why}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("phase", "text"), [("serving", "{}"), ("checking", claim("fast", 1))])
def test_status_leaves_the_endpoint_open_when_it_is_not_known(
    google: Google, checkout, capsys, phase, text
):
    """A claim of another form is none; one from before a reboot may be of another time."""
    google.add_vm("dev")
    google.serving("dev")
    google.say("dev", endpoint=text, phase=phase)

    (row,) = status(capsys)

    assert (row["mode"], row["max_model_len"]) == (None, None)


def test_status_shows_a_lease_when_there_is_one(google: Google, checkout, capsys):
    """A session held by a lease must not look as if it were about to end."""
    google.add_vm("dev", state_bucket="state")
    google.serving("dev", idle_s=600)
    until = stamp(time.time() + 7200)
    google.objects["state", "leases/dev"] = json.dumps({"until": until, "by": "ann"}).encode()

    (row,) = status(capsys)

    assert (row["verdict"], row["ends_at"]) == ("leased", until)


def test_status_lists_seeds_and_sessions_when_several_run(google: Google, checkout, capsys):
    """Everything that costs money is shown, not only what serves."""
    google.add_vm("dev")
    google.add_vm("seed", layer="seed")
    google.say("seed", phase="seeding", heartbeat=stamp(time.time()))

    rows = status(capsys)

    assert {(r["session"], r["layer"], r["phase"]) for r in rows} == {
        ("dev", "session", "booting"),
        ("seed", "seed", "seeding"),
    }


def test_status_counts_nothing_down_when_a_session_starts(google: Google, checkout, capsys):
    """Each sign of life moves the end on: "in 5 min" would stand there for a quarter of an hour."""
    google.add_vm("dev", age_s=400)
    google.say("dev", phase="weights", heartbeat=stamp(time.time()))

    assert cli.main(["status"]) == 0

    out = " ".join(capsys.readouterr().out.split())
    assert "starting (weights), 23 min left for it" in out
    assert "in 5 min" not in out


def test_status_shows_unknown_as_unknown_when_the_settings_cannot_be_read(
    google: Google, checkout, capsys
):
    """A made-up rate or end would be believed."""
    vm_id = google.add_vm("dev")
    google.instances[vm_id]["metadata"]["items"][0]["value"] = "{"

    (row,) = status(capsys)

    assert (row["hourly_usd"], row["cost_usd"], row["ends_at"]) == (None, None, None)
    assert "settings cannot be read" in row["reason"]


def test_status_stops_the_meter_when_the_vm_has_stopped(google: Google, checkout, capsys):
    """A machine that powered itself off costs no GPU any more."""
    vm_id = google.add_vm("dev", age_s=7200)
    google.instances[vm_id] |= {
        "status": "TERMINATED",
        "lastStopTimestamp": stamp(time.time() - 3600),
    }

    (row,) = status(capsys)

    assert (row["status"], row["verdict"]) == ("TERMINATED", "gone")
    assert 25.9 < row["cost_usd"] < 26.1


def test_status_shows_claims_harmlessly_when_a_vm_writes_escapes(google: Google, checkout, capsys):
    """Any process on the VM can write a claim; none may write to the user's terminal."""
    google.add_vm("dev")
    google.serving("dev")
    google.say("dev", message="\x1b]0;owned\x07 [bold]loud[/bold]")

    assert cli.main(["status"]) == 0
    assert cli.main(["status", "--json"]) == 0

    out = capsys.readouterr().out
    assert "\x1b]0" not in out
    assert "\x07" not in out


def test_status_says_that_nothing_costs_money_when_there_is_nothing(
    google: Google, checkout, capsys
):
    """An empty table leaves the question open."""
    assert cli.main(["status"]) == 0
    assert "no machine costs money" in capsys.readouterr().out


def test_status_shows_nothing_when_the_project_never_had_compute(google: Google, checkout, capsys):
    """The first thing a careful user tries, before there is anything."""
    google.fail, google.fail_reason = [403], "accessNotConfigured"

    assert status(capsys) == []


def test_status_says_so_in_three_lines_when_nothing_answers(checkout, capsys):
    """A shell that still has the exports of a local cloud that is gone."""
    os.environ["GOOGLE_PROJECT"] = "p-for-tests"
    os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/compute/v1/"

    assert cli.main(["status"]) == 1

    assert capsys.readouterr().err.splitlines() == [
        "Google does not answer: no connection to 127.0.0.1:9.",
        "Nothing was changed; what runs goes on and ends by its own rule.",
        "Try: a new shell (this one's GOOGLE_*_CUSTOM_ENDPOINT lead to 127.0.0.1:9)",
    ]


def test_status_exits_1_when_google_refuses(google: Google, checkout, capsys):
    """The twin: "you may not look" must not read as "there is nothing"."""
    google.fail, google.fail_reason = [403], "forbidden"

    assert cli.main(["status", "--json"]) == 1

    what, meaning, remedy = capsys.readouterr().err.splitlines()
    assert "403 forbidden" in what
    assert meaning == "Nothing was changed by this call."
    assert "the right that Google names" in remedy


def test_minutes_reads_well_when_it_is_short_or_long():
    """Nobody converts 12000 seconds in their head."""
    assert [minutes(s) for s in (45, 720, 12000)] == ["45 s", "12 min", "3 h 20 min"]
