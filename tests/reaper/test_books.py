"""One record a VM life, exactly once and complete, whatever dies in between."""

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from mayfly.ledger import Record, from_json
from reaper.life import CUT_OFF
from reaper.tick import Report
from tests.reaper.google import REAPER, Google
from tests.reaper.world import (
    BUCKET,
    SETTINGS,
    ZONE_URL,
    add_stack,
    add_vm,
    checkpoint,
    instance,
    serving,
    utc,
    vm_resource,
)

Run = Callable[..., Report]
CONFIG = {
    "mayfly:profile": "kimi-k2.5",
    "mayfly:machine": "a3-highgpu-8g",
    "mayfly:provisioning": "spot",
    "mayfly:hourlyUsd": "36",
    "mayfly:rateSource": "a catalogue",
    "mayfly:rateDate": "2026-06-01",
    "mayfly:startedBy": "ann@example.com",
    "gcp:project": "proj",
    "mayfly:password": {"secure": "v1:x:y"},
}


def record_of(google: Google, number: str) -> Record:
    return from_json(google.objects[BUCKET, f"ledger/{number}.json"].data, number)


def add_update(
    google: Google, started: float, ended: float, *resources: dict[str, Any], stack: str = "dev"
) -> str:
    """A finished update's two objects as the engine's backend writes them; returns their stem."""
    stem = f".pulumi/history/mayfly/{stack}/{stack}-{int(ended * 1e9)}"
    told = {"kind": "update", "startTime": int(started), "endTime": int(ended), "config": CONFIG}
    google.put(BUCKET, f"{stem}.history.json", told)
    google.put(BUCKET, f"{stem}.checkpoint.json", checkpoint(*resources))
    return stem


def short_life(google: Google, number: str = "42", *, ago_s: float = 200) -> dict[str, Any]:
    """A VM that came and went between two runs, two minutes long."""
    made, now = instance(number), time.time()
    google.operation("insert", made, now - ago_s, "ann@example.com")
    google.operation("delete", made, now - ago_s + 120, "ann@example.com")
    return made


def test_life_shorter_than_a_tick_is_booked_whole_when_its_stack_is_gone_too(
    google: Google, run: Run
):
    """`up` and `down` within five minutes cost dollars that no look ever saw."""
    now = time.time()
    short_life(google)
    add_update(google, now - 220, now - 180, vm_resource("42"))
    add_update(google, now - 100, now - 70)
    add_stack(google, "dev")

    report = run()

    assert (report.ledger, report.errors) == (["42"], [])
    life = record_of(google, "42")
    assert life.seconds == pytest.approx(120, abs=0.01)
    assert life.usd == pytest.approx(1.2, rel=0.001)
    assert (life.session, life.profile, life.machine) == ("dev", "kimi-k2.5", "a3-highgpu-8g")
    assert (life.started_by, life.provisioning) == ("ann@example.com", "spot")
    assert (life.rate_source, life.rate_date) == ("a catalogue", "2026-06-01")
    assert (life.ended_by, life.reason) == ("user", "delete by ann@example.com")


@pytest.mark.parametrize("compressed", [False, True])
def test_failed_launch_is_booked_with_what_it_was_for(google: Google, run: Run, compressed: bool):
    """It left no VM and no state: the update that failed still says what was wanted."""
    now, never = time.time(), instance("42")
    error = {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "no H100 here"}]}
    google.operation("insert", never, now - 60, "bob@example.com", error=error)
    stem = add_update(google, now - 65, now - 50)
    if compressed:
        for ending in (".history.json", ".checkpoint.json"):
            plain = google.objects.pop((BUCKET, stem + ending)).data
            google.put(BUCKET, f"{stem}{ending}.gz", gzip.compress(plain))

    run()

    life = record_of(google, "42")
    assert (life.profile, life.machine, life.usd_per_h) == ("kimi-k2.5", "a3-highgpu-8g", 36.0)
    assert (life.seconds, life.usd, life.ended_by) == (0, 0, "google")
    assert life.started_by == "ann@example.com"


def test_failed_launch_names_who_asked_when_nothing_else_tells(google: Google, run: Run):
    """A laptop that died with it leaves no update: Google still knows whose call it was."""
    error = {"errors": [{"code": "QUOTA_EXCEEDED", "message": "no"}]}
    google.operation("insert", instance("42"), time.time() - 60, "bob@example.com", error=error)

    run()

    life = record_of(google, "42")
    assert (life.started_by, life.profile, life.usd) == ("bob@example.com", None, 0)


@pytest.mark.parametrize("broken", [b"{half", b"\x1f\x8bnot gzip", b"[]"])
def test_life_is_booked_with_what_is_left_when_its_update_cannot_be_read(
    google: Google, run: Run, broken: bytes
):
    """Better a record without a rate than none: the seconds are Google's."""
    now = time.time()
    short_life(google)
    stem = add_update(google, now - 220, now - 180)
    google.put(BUCKET, f"{stem}.history.json", broken)

    report = run()

    assert (report.ledger, report.errors) == (["42"], [])
    assert record_of(google, "42").usd is None


def test_update_of_another_time_is_not_taken_for_the_vms_own(google: Google, run: Run):
    """Last month's rate would be believed."""
    now = time.time()
    short_life(google, ago_s=900)
    add_update(google, now - 3000, now - 2900, vm_resource("41"))
    add_update(google, now - 300, now - 290, vm_resource("43"))

    run()

    assert record_of(google, "42").usd_per_h is None


def test_create_that_was_cut_off_tells_what_its_vm_was_for(google: Google, run: Run):
    """Killed in mid-create: the state knows the wish, not the number; Google knows the number."""
    short_life(google)
    state = checkpoint(pending=(vm_resource("", "dev"),))
    google.put(BUCKET, ".pulumi/stacks/mayfly/dev.json", state)

    run()

    life = record_of(google, "42")
    assert (life.profile, life.usd_per_h) == ("kimi-k2.5", 36.0)


def test_two_lives_under_one_name_are_two_records(google: Google, run: Run):
    """Down and up again: the same name, another number, another bill."""
    old, now = instance("41"), time.time()
    google.operation("insert", old, now - 9000, "ann@example.com")
    google.operation("delete", old, now - 5400, "ann@example.com")
    add_vm(google, "42", guest=serving(idle_s=1300))

    report = run()

    assert report.ledger == ["41", "42"]
    first, second = record_of(google, "41"), record_of(google, "42")
    assert (first.vm, second.vm) == ("mayfly-dev", "mayfly-dev")
    assert first.seconds == pytest.approx(3600, abs=0.01)
    assert second.seconds == pytest.approx(3600, abs=30)
    assert (first.ended_by, second.ended_by) == ("user", "reaper")


def test_reaper_is_named_when_it_was_killed_right_after_its_delete(google: Google, run: Run):
    """The delete went out, the reason did not reach the bucket: it was still no user."""
    add_vm(google, "42", guest=serving())
    run()
    gone = google.instances.pop("42")
    google.operation("delete", gone, time.time(), REAPER)

    report = run()

    assert report.ledger == ["42"]
    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("reaper", CUT_OFF)
    assert life.profile == "kimi-k2.5", "known from the look before"


def test_user_of_a_like_name_is_not_taken_for_the_reaper(google: Google, run: Run):
    """The twin: only the account itself, up to its @."""
    gone = add_vm(google, "42")
    del google.instances["42"]
    google.operation("delete", gone, time.time(), f"not-{REAPER}")

    run()

    assert record_of(google, "42").ended_by == "user"


def test_life_waits_for_the_state_that_knows_what_it_was_for(google: Google, run: Run):
    """A bucket that fails once must not cost the rate of a life that no look saw."""
    short_life(google)
    add_stack(google, "dev", vm_resource("42"))
    google.faults = [("stacks/mayfly/dev.json", 503)] * 2

    early, late = run(), run()

    assert (early.ledger, late.ledger) == ([], ["42"])
    assert record_of(google, "42").usd_per_h == 36.0


def test_life_does_not_wait_for_ever_for_a_state_that_is_broken(google: Google, run: Run):
    """The twin: an hour later it is booked with what there is."""
    short_life(google, ago_s=4000)
    google.put(BUCKET, ".pulumi/stacks/mayfly/dev.json", b"{half")

    assert run().ledger == ["42"]
    assert record_of(google, "42").usd is None


def test_last_look_goes_when_a_run_was_killed_before_it_could_remove_it(google: Google, run: Run):
    """Booked, and killed before the tidying: the next run tidies and books nothing twice."""
    add_vm(google, "42", guest=serving(idle_s=1300))
    look = google.put(BUCKET, "observations/42.json", {})
    run()
    record = google.objects[BUCKET, "ledger/42.json"]
    google.objects[BUCKET, "observations/42.json"] = look

    report = run()

    assert report.ledger == []
    assert google.objects[BUCKET, "ledger/42.json"] is record
    assert google.names(BUCKET, "observations/") == []


def test_life_waits_for_its_end_to_be_listed(google: Google, run: Run):
    """Lists lag, and leave out a zone that does not answer: a record is never corrected."""
    gone = add_vm(google, "42", guest=serving())
    run()
    del google.instances["42"]
    early = run()
    google.operation("delete", gone, time.time() - 60, "bob@example.com")
    late = run()

    assert (early.ledger, late.ledger) == ([], ["42"])
    life = record_of(google, "42")
    assert (life.ended_by, life.seconds) == ("user", pytest.approx(3540, abs=30))


def test_life_whose_end_is_never_listed_is_booked_after_an_hour(google: Google, run: Run):
    """The twin: Google forgets operations after two weeks, and a record must come all the same."""
    add_vm(google, "42", guest=serving())
    run()
    google.instances.clear()
    google.operations.clear()
    seen = google.read(BUCKET, "observations/42.json")
    google.put(BUCKET, "observations/42.json", {**seen, "seen_at": time.time() - 3700})

    report = run()

    assert report.ledger == ["42"]
    life = record_of(google, "42")
    assert (life.ended_by, life.reason) == ("unknown", "it is gone and no operation says why")
    assert life.usd is not None


def test_silent_zone_books_nothing_and_its_vms_are_booked_later(google: Google, run: Run):
    """A zone's outage hides its VMs from every list: hidden is not gone."""
    add_vm(google, "42", guest=serving())
    run()
    google.silent.add(ZONE_URL.rpartition("/")[2])

    report = run()

    assert report.ledger == []
    assert google.names(BUCKET, "observations/") == ["observations/42.json"]
    assert google.names(BUCKET, "ledger/") == []


def test_operations_are_read_to_the_last_page(google: Google, run: Run):
    """A month of launches is more than one page: the oldest life counts like the newest."""
    google.page = 3
    for number in range(100, 110):
        short_life(google, str(number))

    report = run()

    assert report.ledger == [str(number) for number in range(100, 110)]
    assert report.pages >= 7, "twenty operations, three a page"


def test_timeline_is_in_the_record_as_the_vm_told_it(google: Google, run: Run):
    """What took so long is asked weeks later, when the VM is no more."""
    stage = {"stage": "weights", "start": utc(1e9), "end": utc(1e9 + 90), "bytes": 5, "ok": True}
    add_vm(google, "42", guest=serving(idle_s=1300, timeline=json.dumps([stage])))

    run()

    assert record_of(google, "42").timeline == (stage,)


def test_every_field_of_a_record_is_known_when_the_vm_was_seen(google: Google, run: Run):
    """The ledger's promise: nothing that somebody pays for is left out."""
    add_vm(google, "42", guest=serving(idle_s=1300))

    run()

    life = vars(record_of(google, "42"))
    assert [name for name, value in life.items() if value in (None, (), "")] == []
    assert life["usd_per_h"] == SETTINGS["hourly_usd"]
