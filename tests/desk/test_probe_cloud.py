"""`mayfly probe --cloud` at the desk: where it may ask, what it refuses, what it brings back."""

import json
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from mayfly import cli, launch, names, profile
from mayfly.cloud import connect
from mayfly.cloud.storage import Blob
from mayfly.commands import probe, probe_cloud, up_wanted
from mayfly.errors import FailedError, RefusedError, WrongInputError
from mayfly.probe_case import Plan
from tests.desk import schemas_launch
from tests.desk.google import PROJECT, Google
from tests.desk.pulumi_stub import CACHE, STATE, Pulumi

LOG = """Model loading took 71.23 GiB memory
Available KV cache memory: 3.10 GiB
GPU KV cache size: 47,000 tokens
RESULT {"decode batch 1": {"per_request_tok_s": 130.0, "total_tok_s": 130.0}}
"""
WHOLE = LOG + 'RESULT {"gpu_gib": 79.18}\n'
OUTPUTS = {"vm_id": "42", "zone": "us-central1-a"}
KEPT = (CACHE, names.probe_log("42"))
WATCH = (STATE, names.watch("probe"))
THEIRS = b'{"by": "bob"}'
CHANGING = ("up", "destroy", "config", "import", "refresh")


@pytest.fixture(autouse=True)
def handlers():
    """A probe takes a closed terminal for Ctrl-C from then on; the next test must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def changed(pulumi: Pulumi) -> list[str]:
    """What was asked of Pulumi that changes anything, by its first word."""
    return [line.split()[0] for line in pulumi.lines if line.startswith(CHANGING)]


@pytest.fixture
def asked(tmp_path):
    plan = Plan(profile=profile.load("kimi-k2.5"), machine="a3-highgpu-8g", mode="fast")
    return probe_cloud.Asked(plan=plan, session="probe", zone="", out=tmp_path / "out", yes=True)


def ground(**outputs):
    return SimpleNamespace(outputs=outputs, there=["us-central1", "us-west1"], stack="foundation")


def cloud(text: str | None):
    """A cache bucket with that log, or none."""

    def get(bucket, name):
        assert (bucket, name) == ("p-mayfly-cache", "probes/42/engine.log")
        return Blob(data=text.encode(), generation=1) if text is not None else None

    return SimpleNamespace(storage=SimpleNamespace(get=get))


def project(**keys):
    written = {f"mayfly:{key}": value for key, value in keys.items()}
    return SimpleNamespace(config=lambda session: written, layer=lambda session: "session")


def test_probe_asks_only_for_single_gpus_where_the_foundation_reaches(asked):
    """Eight of them would be eight times the price, and another region has no subnet."""
    found = probe_cloud.places(asked, ground(subnets={}))

    assert {rung.place.machine for rung in found} == {"a3-highgpu-1g"}
    assert {rung.place.region for rung in found} == {"us-central1", "us-west1"}
    assert max(rung.usd for rung in found) < 5
    assert "USD at most; it ends itself" in probe_cloud.line(asked, found)


def test_probe_is_refused_when_there_is_no_foundation(asked):
    """Its network, its bucket and its reaper are the foundation's."""
    with pytest.raises(RefusedError, match="Try: pulumi up --stack foundation"):
        probe_cloud.places(asked, ground())


@pytest.mark.parametrize("keys", [{"profile": "kimi-k2.5"}, {"layer": "seed"}])
def test_probe_leaves_a_stack_alone_when_it_is_another_layers(keys):
    """`--session dev` must not take away the session that somebody uses."""
    with pytest.raises(WrongInputError, match="is not a probe's"):
        probe_cloud.own_config(project(**keys), "dev")


def test_probe_leaves_a_vm_alone_when_its_stack_has_one(google: Google, checkout, pulumi, asked):
    """A colleague's probe has the same usual name, and no file here: joined, it would be taken for
    ours, and destroyed where it fails."""
    google.add_vm("probe", state_bucket=STATE)

    with pytest.raises(RefusedError, match="'probe' has a VM already") as refused:
        probe_cloud.run(asked)

    assert "mayfly-probe (1000) is in us-central1-a, RUNNING, at 26" in refused.value.meaning
    assert changed(pulumi) == []


def test_probe_is_refused_when_another_began_in_the_same_second(
    google: Google, checkout, pulumi, asked
):
    """Both see no VM; the one that finds the state locked would destroy the other's."""
    google.before_write.append(lambda: google.objects.update({WATCH: THEIRS}))

    with pytest.raises(RefusedError, match="watches probe already") as refused:
        probe_cloud.run(asked)

    assert "mayfly probe kimi-k2.5 --cloud --session probe-2" in refused.value.remedy
    assert changed(pulumi) == []
    assert google.objects == {WATCH: THEIRS}


def test_probe_leaves_the_stack_alone_when_another_took_it_meanwhile(
    google: Google, checkout, pulumi: Pulumi, asked
):
    """What failed here says nothing of the VM that a colleague has brought up there since."""
    # The watch is written at the start, before the attempt, and before anything is taken away.
    nothing: dict[tuple[str, str], bytes] = {}
    for what in (nothing, nothing, {WATCH: THEIRS}):
        google.before_write.append(partial(google.objects.update, what))
    pulumi.up({"status": 1})

    with pytest.raises(FailedError, match="The rank was not measured") as failed:
        probe_cloud.run(asked)

    assert "probe was left alone: somebody else" in failed.value.meaning
    assert "The reaper takes what is left of it" in failed.value.meaning
    assert "destroy" not in changed(pulumi)
    assert google.objects == {WATCH: THEIRS}


def test_probe_brings_figures_and_leaves_nothing_when_all_goes_well(
    google: Google, checkout, pulumi: Pulumi, asked
):
    """From the question to the table, and the stack gone."""
    google.objects[KEPT] = WHOLE.encode()
    pulumi.kept["outputs"]["probe"] = OUTPUTS
    pulumi.up({"state": ["42"]})

    found = probe_cloud.run(asked)

    jsonschema.validate(found, schemas_launch.PROBE_CLOUD)
    assert (found["exit"], found["gpu_gib"], found["left"]) == (0, 79.18, None)
    assert changed(pulumi) == ["config", "up", "destroy"]
    assert google.objects == {KEPT: WHOLE.encode()}, "the watch is gone, too"


def test_probe_keeps_the_log_when_the_engine_ended_early(
    google: Google, checkout, pulumi: Pulumi, asked
):
    """Half an hour of a rented GPU; its VM is taken away, what it measured must not be."""
    google.objects[KEPT] = LOG.encode()
    pulumi.up({"state": ["42"], "status": 1})

    with pytest.raises(FailedError, match="The rank was not measured") as failed:
        probe_cloud.run(asked)

    log = asked.out / "kimi-k2.5-fast-tp8.log"
    assert log.read_text() == LOG
    assert f"measured until then: {log}, gs://{'/'.join(KEPT)}" in failed.value.remedy
    assert failed.value.meaning.endswith("nothing is billed any more.")
    assert changed(pulumi)[-1] == "destroy"


def test_probe_shows_its_figures_and_exits_1_when_its_stack_cannot_be_destroyed(
    google: Google, checkout: Path, pulumi: Pulumi, monkeypatch, capfd
):
    """They were paid for; and who reads them must know that something is left."""
    monkeypatch.setattr(launch, "LOOK_EVERY_S", 0.0)
    google.objects[KEPT] = WHOLE.encode()
    pulumi.kept["outputs"]["probe"] = OUTPUTS
    pulumi.kept["stuck"] = True
    pulumi.up({"state": ["42"]})

    assert cli.main(["probe", "kimi-k2.5", "--cloud", "--yes", "--json", "--out", "out"]) == 1

    told = capfd.readouterr()
    assert json.loads(told.out)["gpu_gib"] == 79.18
    what, meaning, remedy = told.err.strip().splitlines()[-3:]
    assert what == "The rank was measured, and its stack is still there."
    assert "was not taken away: `pulumi destroy" in meaning
    assert "The reaper takes what is left of it" in meaning
    assert remedy == "Try: mayfly down probe"


def test_probe_names_commands_that_go_on_when_it_is_stopped_or_finds_anothers_vm(
    google: Google, asked
):
    """`mayfly up` refuses a probe's stack: as a remedy it would lead nowhere."""
    google.add_vm("probe", state_bucket="another")
    stands = SimpleNamespace(engine=None, cloud=connect(PROJECT), outputs={"state_bucket": STATE})
    hands = probe_cloud.hands(asked, stands)

    with pytest.raises(FailedError, match="is not this stack's") as failed:
        hands.delete(hands.all()[0])

    assert "mayfly probe kimi-k2.5 --cloud --session probe-2" in failed.value.remedy
    assert hands.interrupted(None).remedy == (
        "Try: mayfly down probe, which ends it; then the same command again"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_probe_ends_as_by_ctrl_c_when_its_terminal_is_closed(
    google: Google, checkout, pulumi, asked, monkeypatch, number
):
    """Killed in the middle it would look after nothing: a VM outside the state lives 45 minutes."""

    def walk(*_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(probe_cloud, "walk", walk)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            probe_cloud.run(asked)
    finally:
        signal.signal(number, before)


def test_probe_goes_on_when_the_vm_of_its_stack_has_ended(google: Google, asked):
    """What an earlier probe left is the walk's to take away."""
    number = google.add_vm("probe", state_bucket=STATE)
    google.instances[number]["status"] = "TERMINATED"
    stands = SimpleNamespace(engine=None, cloud=connect(PROJECT), outputs={"state_bucket": STATE})

    probe_cloud.leave_alone(probe_cloud.hands(asked, stands))


def test_up_leaves_a_stack_alone_when_it_is_a_probes():
    """It would measure once more, and serve nothing."""
    with pytest.raises(WrongInputError, match="measures a rank"):
        up_wanted.session_config(project(probe="a3-highgpu-8g"), "probe")


def test_probe_sets_the_logs_figures_beside_the_plans_when_it_is_fetched(asked):
    """The same table as on a GPU at hand; the log stays with the user."""
    found = probe_cloud.fetch(asked, cloud(WHOLE), OUTPUTS, "p-mayfly-cache")

    jsonschema.validate(found | {"left": None}, schemas_launch.PROBE_CLOUD)
    assert (found["exit"], found["gpu_gib"], found["zone"]) == (0, 79.18, "us-central1-a")
    assert found["difference_percent"]["kv_tokens"] == pytest.approx(-3.8, abs=0.3)
    assert (asked.out / "kimi-k2.5-fast-tp8.log").read_text() == WHOLE


def test_probe_counts_as_failed_when_the_log_ends_early(asked):
    """Half a measurement is shown, and never taken for a whole one."""
    assert probe_cloud.fetch(asked, cloud(LOG), OUTPUTS, "p-mayfly-cache")["exit"] == 1


def test_probe_says_so_when_the_log_is_not_there(asked):
    """An empty table would look like an engine that said nothing."""
    with pytest.raises(
        FailedError, match=r"gs://p-mayfly-cache/probes/42/engine\.log is not there"
    ):
        probe_cloud.fetch(asked, cloud(None), OUTPUTS, "p-mayfly-cache")


def test_probe_is_refused_when_batches_are_asked_for_that_a_vm_does_not_measure(tmp_path):
    """What would be left out quietly is said before a VM is rented."""
    wanted = probe.Wanted(
        **{"profile": "qwen3-4b", "machine": "", "mode": "fast", "batches": "1,2", "python": ""},
        **{"out": str(tmp_path), "limit_s": 9, "cloud": True, "session": "probe", "zone": ""},
        yes=True,
    )

    with pytest.raises(WrongInputError, match="--batches 1,2: with --cloud it is 1,8,64"):
        probe.run(wanted, as_json=True)
