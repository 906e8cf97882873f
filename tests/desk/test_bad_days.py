"""Each command on a bad day: one message, the exit code that the table promises, no traceback."""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import jsonschema
import pytest

from mayfly import cli
from mayfly.cloud.http import Retry
from tests.desk import schemas, tree
from tests.desk.google import Google, stamp
from tests.desk.test_down import STUB

SESSION = (
    ["logs"],
    ["connect"],
    ["idle"],
    ["idle", "--json"],
    ["keep", "1h"],
    ["keep", "--release"],
    ["ssh"],
    ["exec", "--", "true"],
    ["cp", ":x", "y"],
    ["ssh-config", "--yes"],
    ["bench", "run"],
)
"""Those that mean one session, and find it by themselves where there is only one."""
READING = (["status"], ["status", "--json"], ["cost"], ["cost", "--json"], ["cost", "--csv"])
ENDING = (["down", "dev", "--yes"], ["down", "--all", "--yes"])
HERE = ("kimi-k2.5", "--region", "us-central1")
OTHERS = (
    ["capacity"],
    ["quota", "list"],
    ["quota", "check", "kimi-k2.5"],
    ["quota", "request", *HERE, "--email", "ann@example.com", "--yes"],
    ["init", "--project", "p-for-tests", "--region", "us-central1", "--no-hf-token", "--yes"],
    ["up", "--yes"],
    ["up", "--dry-run", "--json"],
    ["seed", "kimi-k2.5"],
    ["dashboard"],
)
ALL = (*SESSION, *READING, *ENDING, *OTHERS)
SAYS_IT_ITSELF = {
    "doctor": "test_doctor.py: one finding, and the rest is not known",
    "plan": "test_plan.py: with --live it goes by the table, and says so",
}
ASKS_NO_GOOGLE = {
    *("demo", "local up", "local down"),  # they bring their own
    *("probe", "profile check", "profile new", "bench compare", "bench report"),
}


@pytest.fixture
def desk(checkout: Path, stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gcloud that would do it, a Pulumi with a session "dev", a home of one's own, no waiting."""
    stub("gcloud", "#!/bin/sh\nexit 255\n")
    stub("pulumi", STUB.format(python=sys.executable))
    os.environ["STUB_LOG"] = str(tmp_path / "pulumi.log")
    os.environ["STUB_STACKS"] = json.dumps({"dev": "session", "foundation": ""})
    os.environ["HOME"] = os.environ["CLOUDSDK_CONFIG"] = str(tmp_path)
    monkeypatch.setattr("mayfly.cloud.http.Retry", partial(Retry, first_delay_s=0.0))
    return checkout


def one_message(err: str) -> str:
    """The message, held to its form: what happened, what it means, what to do."""
    lines = err.strip().splitlines()
    assert 1 <= len(lines) <= 3, err
    assert "Traceback" not in err
    assert "does not know" not in lines[0], "an error that nobody has thought of"
    return lines[0]


def test_every_command_has_its_bad_days():
    """A new command is in the tables above, or this is red."""
    tried = {tree.named(words) for words in ALL}
    of_one_session = {name for name, options in tree.commands().items() if "session" in options}

    assert tried | set(SAYS_IT_ITSELF) | ASKS_NO_GOOGLE == set(tree.commands())
    # `down` and `cp` are told which one: by name, and before the colon.
    assert of_one_session - {"down"} == {tree.named(words) for words in SESSION} - {"cp"}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_command_names_the_login_when_there_are_no_credentials(words, desk, capfd):
    """The first day on a new machine."""
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
    os.environ["NO_GCE_CHECK"] = "true"  # google.auth would knock at a metadata server for 3 s
    os.environ["GOOGLE_PROJECT"] = "p-for-tests"

    assert cli.main(words) == 1

    captured = capfd.readouterr()
    assert "No usable Google credentials" in one_message(captured.err)
    assert "Try: gcloud auth application-default login" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_command_says_so_when_there_is_no_network(words, desk, capfd):
    """On a train. Whether something runs is not known, and nobody pretends."""
    os.environ["GOOGLE_PROJECT"] = "p-for-tests"
    os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"

    assert cli.main(words) == 1

    captured = capfd.readouterr()
    assert one_message(captured.err).startswith("Google does not answer: no connection to ")
    assert "what runs goes on and ends by its own rule" in captured.err
    assert "when this machine is online" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", SESSION, ids=" ".join)
def test_command_names_both_when_two_sessions_could_be_meant(words, google: Google, desk, capfd):
    """Never the first one by chance."""
    for name in ("dev", "night"):
        google.add_vm(name)
        google.serving(name)

    assert cli.main(words) == 2

    captured = capfd.readouterr()
    assert one_message(captured.err).startswith("Which session?")
    assert "dev" in captured.err
    assert "night" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", SESSION, ids=" ".join)
def test_command_says_that_there_is_none_when_there_is_none(words, google: Google, desk, capfd):
    """What it would cost to have one is a command away; nothing is assumed."""
    assert cli.main(words) == 2

    captured = capfd.readouterr()
    one_message(captured.err)
    assert "there: none" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", SESSION, ids=" ".join)
def test_command_names_the_session_when_it_is_not_there(words, google: Google, desk, capfd):
    """A typo, or one that ended an hour ago."""
    google.add_vm("dev")
    named = {name: [*words, "nigth"] for name in ("keep", "bench")} | {"cp": ["cp", "nigth:x", "y"]}
    given = named.get(words[0]) or [words[0], "nigth", *words[1:]]

    assert cli.main(given) == 2

    captured = capfd.readouterr()
    assert "'nigth'" in one_message(captured.err)
    assert captured.out == ""


BEING_REAPED = {
    "logs": 0,
    "connect": 1,
    "idle": 0,
    "keep": 3,
    "ssh": 1,
    "exec": 1,
    "cp": 1,
    "ssh-config": 1,
    "bench": 1,
    "status": 0,
    "cost": 0,
    "down": 0,
}


@pytest.mark.parametrize("words", [*SESSION, *READING, *ENDING], ids=" ".join)
def test_command_says_what_is_left_when_the_session_is_being_reaped(
    words, google: Google, desk, capfd
):
    """The minute in which it goes: neither a hang nor a riddle."""
    number = google.add_vm("dev", state_bucket="state")
    google.serving("dev", idle_s=1300)
    google.say("dev", phase="ended", message="idle for 20 min")
    google.instances[number]["status"] = "STOPPING"
    code = 0 if "--release" in words else BEING_REAPED[words[0]]

    assert cli.main(words) == code

    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    if code:
        assert "dev" in one_message(captured.err)
    if "--json" in words:
        schemas.check(SCHEMAS[words[0]], json.loads(captured.out))


@pytest.mark.parametrize("words", [*SESSION, *READING, *ENDING], ids=" ".join)
def test_command_ends_in_words_when_the_vm_goes_while_it_looks(words, google: Google, desk, capfd):
    """The list still has it, the next call does not."""
    google.add_vm("dev", state_bucket="state")
    answer = google.answer

    def answer_once(path: str):
        found = answer(path)
        if "aggregated" in path:
            google.instances.clear()
        return found

    google.answer = answer_once  # type: ignore[method-assign]

    code = cli.main(words)

    captured = capfd.readouterr()
    assert code in (0, 1, 255), captured.err  # 255: gcloud's own, over a line that is gone
    assert "Traceback" not in captured.err
    if code:
        one_message(captured.err)
        assert "dev" in captured.err


SCHEMAS = {
    "status": schemas.STATUS,
    "idle": schemas.IDLE,
    "keep": schemas.KEEP,
    "cost": schemas.COST,
}


@pytest.mark.parametrize(
    ("words", "schema"),
    [
        (["status", "--json"], schemas.STATUS),
        (["idle", "--json"], schemas.IDLE),
        (["keep", "1h", "--json"], schemas.KEEP),
        (["keep", "--release", "--json"], schemas.KEEP),
        (["cost", "--json"], schemas.COST),
        (["cost", "--break-even", "--json"], schemas.BREAK_EVEN),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("day", ["a good one", "nothing is known", "it has just begun"])
def test_json_has_the_shape_that_scripts_are_written_against(
    words, schema, day, google: Google, desk, capfd
):
    """Nulls where something is not known, and never a key that comes and goes."""
    number = google.add_vm("dev", state_bucket="state", started_by="ann@example.com")
    if day == "a good one":
        google.serving("dev", idle_s=60)
        start, end = stamp(time.time() - 90), stamp(time.time())
        stage = {"stage": "ram", "start": start, "end": end, "bytes": 5, "ok": True}
        look = json.dumps({"active": "a request was served", "unknown": ""})
        google.say(
            "dev",
            timeline=json.dumps([stage]),
            load='{"tok_s": 12.5, "running": 1, "waiting": 0}',
            endpoint='{"mode": "fast", "max_model_len": 32768, "served_model": "kimi-k2.5"}',
            look=look,
        )
    if day == "nothing is known" and words[0] == "status":
        google.instances[number]["metadata"]["items"][0]["value"] = "{"

    assert cli.main(words) == 0

    schemas.check(schema, json.loads(capfd.readouterr().out))


@pytest.mark.parametrize("change", [{"cost_usd": "1.0"}, {"unheard_of": 1}, {"ends_at": "soon"}])
def test_schema_sees_red_when_a_row_has_another_shape(change):
    """The twin: a schema that takes everything proves nothing."""
    row = dict.fromkeys(schemas.ROW["properties"]) | {
        **dict.fromkeys(("session", "phase", "message", "vm", "vm_id", "zone", "status"), "x"),
        **{"provisioning": "spot", "reason": "x", "layer": "session", "age_s": 1, "timeline": []},
        "created_at": "2026-11-23T20:00:00Z",
    }
    schemas.check(schemas.STATUS, {"project": "p", "sessions": [row]})

    with pytest.raises(jsonschema.ValidationError):
        schemas.check(schemas.STATUS, {"project": "p", "sessions": [row | change]})
