"""The reaper while Google fails: nothing is lost, nothing is done twice, nothing takes too long."""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from components import idle_reaper
from mayfly import idle
from mayfly.cloud import CloudError
from mayfly.ledger import from_json
from reaper.life import CUT_OFF
from reaper.settings import Settings
from reaper.tick import TOO_SLOW, Report
from tests.reaper.google import Google
from tests.reaper.world import (
    BUCKET,
    ZONE_URL,
    add_engine,
    add_stack,
    add_vm,
    readiness,
    resource,
    serving,
    utc,
    vm_resource,
)
from tests.waiting import wait_until

Run = Callable[..., Report]
RUNS = 60
SCHEDULE_S = 300
COLD_START_S = 20


def one_to_end_and_one_to_keep(google: Google) -> None:
    add_engine(google)
    add_vm(google, "42", guest=serving(idle_s=3000))
    add_vm(google, "43", "busy", guest=serving())
    add_stack(google, "dev", vm_resource("42"), readiness())
    add_stack(google, "busy", vm_resource("43", "busy"), readiness())


def let_time_pass(google: Google) -> None:
    """The lease of a run that could not give it back ends with the time that run had."""
    found = google.objects.get((BUCKET, "reaper/lease.json"))
    if found is not None:
        found.data = json.dumps({**json.loads(found.data), "until": utc(time.time() - 1)}).encode()


def runs_until_clean(google: Google, run: Run) -> list[Report]:
    """Runs, one after another, until the idle session is gone and booked."""
    reports: list[Report] = []
    for _ in range(RUNS):
        with suppress(CloudError):
            reports.append(run())
        destroyed = [stack for report in reports for stack in report.destroyed]
        booked = (BUCKET, "ledger/42.json") in google.objects
        if booked and "dev" in destroyed and not google.names(BUCKET, "observations/42"):
            return reports
        let_time_pass(google)
    raise AssertionError([report.errors for report in reports])


@pytest.mark.parametrize("when", ["every_other", "lost"])
@pytest.mark.parametrize("status", [503, 429, 0])
@pytest.mark.parametrize("calls", ["/compute/", "/storage/", "."])
def test_session_ends_in_one_run_when_every_other_call_fails(
    google: Google, run: Run, calls: str, status: int, when: str
):
    """Compute, the bucket or both: refused, unanswered, or done with the answer lost."""
    one_to_end_and_one_to_keep(google)
    getattr(google, when).append((calls, status))

    report = run()

    assert (report.errors, list(google.instances)) == ([], ["43"])
    assert (report.ledger, report.destroyed) == (["42"], ["dev"])
    life = from_json(google.objects[BUCKET, "ledger/42.json"].data, "42")
    assert (life.ended_by, life.reason) == ("reaper", "idle for 50 min")
    assert google.names(BUCKET, "observations/") == ["observations/43.json"]


@pytest.mark.parametrize("seed", range(12))
def test_session_ends_once_and_is_booked_once_in_a_storm(google: Google, run: Run, seed: int):
    """A third of all calls fail by chance, two tries each: runs are cut short wherever it hurts."""
    one_to_end_and_one_to_keep(google)
    google.storm, google.chance = 0.33, random.Random(seed)

    reports = runs_until_clean(google, run)

    assert list(google.instances) == ["43"]
    life = from_json(google.objects[BUCKET, "ledger/42.json"].data, "42")
    assert life.ended_by == "reaper"
    assert life.reason in ("idle for 50 min", CUT_OFF)
    assert life.usd is not None
    assert [number for report in reports for number in report.ledger] == ["42"]
    assert google.names(BUCKET, "ledger/") == ["ledger/42.json"]
    assert {vm["kind"] for report in reports for vm in report.vms if vm["id"] == "43"} <= {
        "active",
        "unknown",
        "starting",
    }


def test_run_ends_in_time_and_deadlines_hold_when_compute_is_slow(google: Google, run: Run):
    """Guest attributes take a second each: the forgotten VM at the end of the list still goes."""
    for number in range(100, 180):
        add_vm(google, str(number), f"s{number}", guest=serving())
    add_vm(google, "999", "zlast", guest=serving(), age_s=15000)
    google.answers_in_s["getGuestAttributes"] = 1.0
    began = time.monotonic()

    report = run(tick_s=4)

    assert report.deleted == ["mayfly-zlast"]
    assert report.errors == [TOO_SLOW], "said once, not eighty times"
    assert time.monotonic() - began < 30
    assert {vm["kind"] for vm in report.vms} == {"active", "unknown", "deadline"}


def test_claims_are_asked_for_when_compute_answers_in_time(google: Google, run: Run):
    """The twin: a healthy Compute is asked about every VM."""
    for number in range(100, 140):
        add_vm(google, str(number), f"s{number}", guest=serving())

    report = run(tick_s=30)

    assert report.errors == []
    assert {vm["kind"] for vm in report.vms} == {"active"}


def test_run_ends_in_time_when_the_bucket_is_slow(google: Google, run: Run):
    """What the books lack this time, the next run writes; the platform must not cut it off."""
    for number in range(100, 180):
        add_vm(google, str(number), f"s{number}", guest=serving(), age_s=15000)
    google.answers_in_s["observations|ledger"] = 0.5
    began = time.monotonic()

    report = run(tick_s=2)

    assert len(report.deleted) == 80
    assert time.monotonic() - began < 30
    assert any("no time left in this run" in error for error in report.errors)
    google.answers_in_s.clear()
    later = run()
    assert len(google.names(BUCKET, "ledger/")) == 80
    assert later.errors == []


def test_long_destroy_does_not_delay_a_delete(google: Google, run: Run, record: Path):
    """One session's debris takes minutes; another's GPUs are idle meanwhile."""
    add_engine(google)
    add_stack(google, "old", readiness())
    os.environ["FAKE_PULUMI"] = "hang"
    reports: list[Report] = []
    first = threading.Thread(target=lambda: reports.append(run(tick_s=12)))
    first.start()
    try:
        wait_until(lambda: list(record.iterdir()), 20)
        add_vm(google, "42", guest=serving(idle_s=3000))

        second = run()

        assert first.is_alive(), "the destroy was over too early to show anything"
        assert second.deleted == ["mayfly-dev"]
        assert second.ledger == ["42"]
    finally:
        first.join(60)
    assert reports[0].postponed == [{"stack": "old", "reason": "it took too long for one run"}]


def test_run_is_over_before_the_scheduler_calls_again():
    """There is one instance: a run that is still at work when the next look is due delays it."""
    assert (
        Settings(project="p", state_bucket="b", foundation_stack="f").tick_s + COLD_START_S
        < SCHEDULE_S
        < idle_reaper.TIMEOUT_S
        < idle_reaper.ATTEMPT_S
    )


def test_stack_waits_while_its_vms_zone_is_silent(google: Google, run: Run, record: Path):
    """Lists leave the zone out: what cannot be seen is not gone, and a destroy would take it."""
    add_engine(google)
    add_vm(google, "42", guest=serving())
    add_stack(google, "dev", vm_resource("42"), readiness())
    google.silent.add(ZONE_URL.rpartition("/")[2])

    report = run()

    assert (report.destroyed, list(record.iterdir())) == ([], [])
    assert "stack dev: GET" in report.errors[0]
    assert "does not answer" in report.errors[0]


def test_stack_waits_when_its_state_does_not_say_where_its_vm_is(
    google: Google, run: Run, record: Path
):
    """A VM that cannot be asked for may be alive: a broken state is no reason to end it."""
    add_engine(google)
    add_stack(google, "dev", resource("gcp:compute/instance:Instance", "vm"))

    report = run()

    why = "its state does not say where its VM is"
    assert report.postponed == [{"stack": "dev", "reason": why}]
    assert list(record.iterdir()) == []


def test_many_vms_that_end_at_once_are_waited_for_below_googles_read_quota(
    google: Google, run: Run
):
    """A foundation's last evening: 200 VMs go in one run, and each look at one is a read."""
    for number in range(1000, 1200):
        add_vm(google, str(number), f"s{number}", guest=serving(idle_s=3000))
    google.slow_delete = True

    report = run(tick_s=8)

    assert len(report.deleted) == 200
    reads = [line for line in google.log if line.startswith("GET /compute/")]
    assert len(reads) < 750, "half of what Compute allows in a minute"


def test_next_run_takes_the_lease_at_once_when_a_run_was_killed(google: Google, run: Run):
    """A lease that outlives the run that it was taken for keeps the next one from cleaning up."""
    add_engine(google)
    add_stack(google, "dev", readiness())
    leases: list[str] = []
    look = (r"^GET .*engine/manifest", lambda: leases.append(lease_of(google)))
    google.meanwhile.append(look)
    began = time.time()

    run(tick_s=60)

    ends = idle.parse_time(leases[0])
    assert ends is not None
    assert began + 50 < ends < began + 90


def lease_of(google: Google) -> str:
    return str(google.read(BUCKET, "reaper/lease.json")["until"])
