"""`mayfly keep` and `mayfly idle`: hold a session on purpose, and see why it ends."""

import json
import time
from dataclasses import replace

import pytest

from mayfly import cli, idle, vms
from reaper import decide
from reaper import vm as reaper_vm
from tests.desk.google import LIMITS, Google, stamp

LEASE = ("state", "leases/dev")


@pytest.fixture
def dev(google: Google, checkout) -> Google:
    """A session that has served for an hour and was used ten minutes ago."""
    google.add_vm("dev", age_s=3600, state_bucket="state")
    google.serving("dev", idle_s=600)
    return google


def held(google: Google) -> dict:
    found: dict = json.loads(google.objects[LEASE])
    return found


def run(capsys, *words: str) -> dict:
    assert cli.main([*words, "--json"]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_keep_holds_a_session_for_as_long_as_asked(dev: Google, capsys):
    """A model is downloaded by hand: nothing moves that mayfly can see."""
    assert cli.main(["keep", "2h", "dev"]) == 0

    lease = held(dev)
    assert abs(vms.seconds(lease["until"]) - (time.time() + 7200)) < 30
    assert lease["vm_id"] == "1000"
    out = capsys.readouterr().out
    assert f"dev is kept until {lease['until']} (in 2 h 0 min), by {lease['by']}: about $5" in out
    assert run(capsys, "idle", "dev")["verdict"] == "leased"


def test_keep_takes_the_only_session_when_none_is_named(dev: Google, capsys):
    """The usual case should be short to type."""
    assert run(capsys, "keep", "90m")["session"] == "dev"


def test_keep_says_no_and_until_when_it_can_when_the_deadline_is_nearer(dev: Google, capsys):
    """Google deletes the VM then; a lease that promises more is a lie about money."""
    assert cli.main(["keep", "4h", "dev"]) == 3

    what, meaning, remedy = capsys.readouterr().err.splitlines()
    assert what.startswith("dev cannot be kept for 4 h 0 min: its deadline is 20")
    assert what.endswith("Z (in 3 h 0 min).") or what.endswith("Z (in 2 h 59 min).")
    assert "budget" in meaning
    assert remedy == "Try: mayfly keep 179m dev"
    assert LEASE not in dev.objects
    assert cli.main(remedy.removeprefix("Try: mayfly ").split()) == 0


def test_keep_says_no_when_the_session_has_ended(dev: Google, capsys):
    """A lease on a dead VM would hold the next one of its name, or nothing."""
    dev.say("dev", phase="ended")

    assert cli.main(["keep", "1h", "dev"]) == 3

    assert "dev has ended" in capsys.readouterr().err
    assert LEASE not in dev.objects


def test_keep_leaves_a_longer_lease_when_there_is_one(dev: Google, capsys):
    """Ann's two hours must not become Ben's ten minutes."""
    until = stamp(time.time() + 7200)
    dev.objects[LEASE] = json.dumps({"until": until, "by": "ann", "vm_id": "1000"}).encode()

    assert cli.main(["keep", "10m", "dev"]) == 0

    assert held(dev)["by"] == "ann"
    out = capsys.readouterr().out
    assert f"kept until {until}" in out
    assert "mayfly keep --release dev" in out


def test_keep_takes_the_place_of_an_older_machines_lease(dev: Google, capsys):
    """Yesterday's VM of the same name may have been kept until tomorrow."""
    until = stamp(time.time() + 90_000)
    dev.objects[LEASE] = json.dumps({"until": until, "by": "ann", "vm_id": "999"}).encode()
    assert run(capsys, "idle", "dev")["verdict"] == "idle"

    run(capsys, "keep", "10m", "dev")

    assert held(dev)["vm_id"] == "1000"


def test_keep_looks_again_when_somebody_else_was_first(dev: Google, capsys):
    """Two people keep the same session at the same moment; the longer wish holds."""
    until = stamp(time.time() + 7200)
    other = json.dumps({"until": until, "by": "ann", "vm_id": "1000"}).encode()
    dev.before_write.append(lambda: dev.objects.update({LEASE: other}))

    assert run(capsys, "keep", "10m", "dev")["kept_until"] == until


def test_keep_release_gives_it_back_once_or_twice(dev: Google, capsys):
    """Who is done early should not have to pay for the rest."""
    run(capsys, "keep", "2h", "dev")

    assert run(capsys, "keep", "--release", "dev")["kept_until"] is None
    assert cli.main(["keep", "--release"]) == 0

    assert LEASE not in dev.objects
    assert "dev is kept by nobody" in capsys.readouterr().out
    assert run(capsys, "idle", "dev")["verdict"] == "idle"


def test_keep_release_leaves_a_lease_that_came_meanwhile(dev: Google, capsys):
    """Ben gives his lease back while Ann, at another desk, keeps the session for the night."""
    run(capsys, "keep", "1h", "dev")
    anns = json.dumps({"until": stamp(time.time() + 7200), "by": "ann", "vm_id": "1000"}).encode()
    dev.before_write.append(lambda: dev.objects.update({LEASE: anns}))

    assert cli.main(["keep", "--release", "dev"]) == 3

    what, meaning, remedy = capsys.readouterr().err.splitlines()
    assert what == "Somebody has kept dev anew in this moment."
    assert meaning == "That lease was left alone; the session is kept."
    assert "mayfly idle dev" in remedy
    assert dev.objects[LEASE] == anns


def test_keep_names_the_right_that_is_missing_when_google_refuses(dev: Google, capsys):
    """A member may use a session without owning the bucket."""
    dev.refuse_writes = "ann does not have storage.objects.create access"

    assert cli.main(["keep", "1h", "dev"]) == 1

    what, meaning, remedy = capsys.readouterr().err.splitlines()
    assert what.startswith("You may not write gs://state/leases/dev: ")
    assert meaning == "Nothing was changed; the session ends when it is idle."
    assert "pulumi up --stack foundation" in remedy


def test_keep_and_release_work_for_a_member_who_may_not_list_the_bucket(dev: Google, capsys):
    """Cloud Storage answers 403, not 404, to a member where there is no lease yet."""
    dev.may_list = False
    assert run(capsys, "idle", "dev")["verdict"] == "idle"
    assert run(capsys, "keep", "--release", "dev")["kept_until"] is None

    assert run(capsys, "keep", "1h", "dev")["kept_until"] == held(dev)["until"]
    assert run(capsys, "idle", "dev")["verdict"] == "leased"
    assert run(capsys, "keep", "--release", "dev")["kept_until"] is None

    assert LEASE not in dev.objects


def test_keep_release_is_refused_when_a_lease_may_only_be_read(dev: Google, capsys):
    """The twin: a refusal must not look like "there was none"."""
    run(capsys, "keep", "1h", "dev")
    dev.may_list, dev.refuse_writes = False, "ann does not have storage.objects.create access"

    assert cli.main(["keep", "--release", "dev"]) == 1

    assert capsys.readouterr().err.startswith("You may not write gs://state/leases/dev: ")
    assert LEASE in dev.objects


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keep"], "For how long?"),
        (["keep", "dev"], "'dev' is no time"),
        (["keep", "0h", "dev"], "'0h' is no time"),
        (["keep", "-1h", "dev"], "-1"),
        (["keep", "1.5h", "dev"], "'1.5h' is no time"),
        (["keep", "2h", "nobody"], "No session 'nobody'"),
        (["keep", "2h", "Bad_Name"], "'Bad_Name' cannot be a session"),
        (["keep", "2h", "dev", "--release"], "--release takes no time (2h)"),
        (["idle", "nobody"], "No session 'nobody'"),
    ],
)
def test_keep_changes_nothing_when_the_input_is_wrong(dev: Google, capsys, words, said):
    """2 promises that nothing was attempted."""
    assert cli.main(words) == 2

    assert said in capsys.readouterr().err
    assert dev.objects == {}


def test_idle_says_what_was_last_at_work_and_when_it_ends(dev: Google, capsys):
    """The question behind it is: can I go to lunch?"""
    dev.say("dev", look=json.dumps({"active": "2 requests running, 0 waiting", "unknown": ""}))

    found = run(capsys, "idle")
    assert cli.main(["idle"]) == 0

    assert (found["verdict"], found["activity"]) == ("idle", "2 requests running, 0 waiting")
    assert abs(vms.seconds(found["ends_at"]) - time.time() - 600) < 30
    out = capsys.readouterr().out
    assert "dev: idle for 10 min of 20 min." in out
    assert "(10 min ago): 2 requests running, 0 waiting." in out
    assert "if nothing happens" in out
    assert "mayfly keep 1h dev" in out


def test_idle_says_what_the_watchdog_cannot_see(dev: Google, capsys):
    """Neither idle nor active: the reason is on the machine."""
    dev.say("dev", look=json.dumps({"active": "", "unknown": "vLLM's /metrics: 500"}))

    assert cli.main(["idle", "dev"]) == 0

    assert "The watchdog cannot see: vLLM's /metrics: 500." in capsys.readouterr().out


@pytest.mark.parametrize(
    "claim", ["", "[]", "{}", '{"active": 1, "unknown": []}', "[" * 1000, '"\\ud800"']
)
def test_idle_survives_a_claim_that_is_not_ours(dev: Google, capsys, claim):
    """Any process on the VM can write it."""
    dev.say("dev", look=claim)

    assert run(capsys, "idle", "dev")["activity"] is None


def test_idle_shows_claims_harmlessly_when_a_vm_writes_escapes(dev: Google, capsys):
    """A claim must not write to the user's terminal."""
    dev.say("dev", look=json.dumps({"active": "\x1b]0;owned\x07", "unknown": "\x1b[2J"}))
    dev.objects[LEASE] = json.dumps(
        {"until": stamp(time.time() + 60), "by": "\x1b[31mann", "vm_id": "1000"}
    ).encode()

    assert cli.main(["idle", "dev"]) == 0

    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"phase": "loading"}, "it was still loading 60 min after its creation"),
        ({"phase": "failed"}, "it failed and nobody has worked on it"),
        ({"phase": "ended"}, "its own last word was 'ended'"),
    ],
)
def test_idle_tells_it_in_every_phase(dev: Google, capsys, claims, said):
    """It is asked when something is odd, thus in odd states."""
    dev.say("dev", **claims)

    assert cli.main(["idle", "dev"]) == 0

    assert said in capsys.readouterr().out


CLAIMS = [
    {},
    {"phase": "loading"},
    {"phase": "failed"},
    {"phase": "serving", "heartbeat": 0, "active_at": 600},
    {"phase": "serving", "heartbeat": 0, "active_at": 1300},
    {"phase": "serving", "heartbeat": 400, "active_at": 500},
    {"phase": "serving", "heartbeat": -4000, "active_at": -4000},
    {"phase": "seeded"},
]


@pytest.mark.parametrize("claims", CLAIMS)
@pytest.mark.parametrize("lease_s", [None, -60, 600])
def test_idle_comes_to_the_reapers_verdict(dev: Google, claims, lease_s):
    """Two answers to "when does it end" would be one too many."""
    now = time.time()
    said = {k: v if isinstance(v, str) else stamp(now - v) for k, v in claims.items()}
    instance = dev.instances["1000"]
    lease = None if lease_s is None else now + lease_s
    theirs = reaper_vm.parse(instance)
    mine = vms.parse(instance)
    assert mine.limits() == idle.Limits(**LIMITS) == theirs.limits

    seen = replace(theirs, attributes=said or None, lease_until=lease)
    observed = idle.parse_observation(mine.status, mine.created_at, said or None, lease, now)

    assert decide.judge(seen, now) == idle.verdict(observed, mine.limits(), now)
