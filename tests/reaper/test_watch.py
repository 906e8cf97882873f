"""The reaper and `mayfly up --watch`: a session between two VMs is no leftover, for a while."""

import time
from collections.abc import Callable

import pytest

from reaper.tick import Report
from tests.reaper.google import Google
from tests.reaper.world import BUCKET, add_engine, add_stack, add_vm, readiness, utc, vm_resource

Run = Callable[..., Report]


@pytest.fixture
def between(google: Google) -> Google:
    """A session whose VM was preempted a minute ago; its stack still holds it."""
    add_engine(google)
    gone = add_vm(google, "42")
    del google.instances["42"]
    google.operation("compute.instances.preempted", gone, time.time() - 60)
    add_stack(google, "dev", vm_resource("42"), readiness())
    return google


def test_stack_waits_when_somebody_brings_its_session_up_again(between: Google, run: Run):
    """A destroy in the middle of the next `up` would cost the session, and both their time."""
    between.put(BUCKET, "leases/dev.watch", {"until": utc(time.time() + 120), "by": "ann"})

    report = run()

    assert report.destroyed == []
    why = "`mayfly up --watch` brings it up again"
    assert report.postponed == [{"stack": "dev", "reason": why}]
    assert report.ledger == ["42"], "its first life is booked all the same"


@pytest.mark.parametrize(
    "watch",
    [
        {"until": utc(time.time() - 5), "by": "ann"},
        {"until": utc(time.time() + 86400), "by": "ann"},
        {"until": "soon"},
    ],
    ids=["stale", "no renewal puts it a day ahead", "garbled"],
)
def test_stack_is_destroyed_as_always_when_its_watch_is_not_renewed(
    between: Google, run: Run, watch: dict[str, str]
):
    """A laptop that was closed must not leave a stack for ever."""
    between.put(BUCKET, "leases/dev.watch", watch)

    report = run()

    assert report.destroyed == ["dev"]
    assert report.errors == []


def test_vm_ends_by_its_own_verdict_though_it_is_watched(google: Google, run: Run):
    """A watch holds a stack, never a machine: idle GPUs end whoever looks on."""
    add_vm(google, "42", age_s=14500)
    google.put(BUCKET, "leases/dev.watch", {"until": utc(time.time() + 120), "by": "ann"})

    assert run().deleted == ["mayfly-dev"]
