"""From Compute's operations to one line in the ledger."""

from typing import Any

import pytest

from mayfly.ledger import Record
from reaper.life import Ending, Known, Operation, is_over, parse_operation, tell
from tests.reaper.world import instance

T = 1_800_000_000.0
KNOWN = Known(
    name="mayfly-dev",
    zone="us-east5-a",
    settings={"session": "dev", "layer": "session", "hourly_usd": 36.0},
    created_at=T,
    seen_at=T + 900,
    max_life_s=14400,
    phase="serving",
)
OURS = Ending(kind="idle", reason="idle for 20 min", operations=("ours-1", "ours-2"))


def op(kind: str, at: float, **more: Any) -> Operation:
    told = {
        "name": f"{kind}-{at:.0f}",
        "vm_id": "42",
        "vm": "mayfly-dev",
        "zone": "us-east5-a",
        "user": "ann@example.com",
        "started": T + at,
        "ended": T + at,
        "error": "",
        **more,
    }
    return Operation(kind=kind, **told)


def life(*operations: Operation, known: Known | None = KNOWN) -> Record:
    return tell("42", operations, known)


def known(**more: Any) -> Known:
    return Known(**{**vars(KNOWN), **more})


GUEST = "compute.instances.guestTerminate"
PREEMPTED = "compute.instances.preempted"


@pytest.mark.parametrize(
    ("operations", "what", "seconds", "ended_by", "reason"),
    [
        (
            [op("delete", 3600, name="ours-1")],
            known(ending=OURS),
            3600,
            "reaper",
            "idle for 20 min",
        ),
        (
            [op("delete", 3600, name="ours-2"), op("delete", 3700, name="ours-3")],
            known(ending=OURS),
            3600,
            "reaper",
            "idle for 20 min",
        ),
        ([op("delete", 60)], KNOWN, 60, "user", "delete by ann@example.com"),
        ([op("stop", 60), op("delete", 99)], KNOWN, 60, "user", "stop by ann@example.com"),
        ([op(PREEMPTED, 60, user="system")], KNOWN, 60, "google", "preempted"),
        (
            [op(PREEMPTED, 60, user="system"), op("delete", 99, name="ours-1")],
            known(ending=OURS),
            60,
            "google",
            "preempted",
        ),
        (
            [op(GUEST, 60, user="system"), op("delete", 99, name="ours-1")],
            known(phase="ended", message="idle for 20 min", ending=OURS),
            60,
            "watchdog",
            "idle for 20 min",
        ),
        (
            [op("delete", 99, name="ours-1")],
            known(
                phase="ended",
                message="idle for 20 min",
                ending=Ending(kind="gone", reason="x", operations=("ours-1",)),
            ),
            99,
            "watchdog",
            "idle for 20 min",
        ),
        (
            [op(GUEST, 60, user="system")],
            KNOWN,
            60,
            "unknown",
            "the guest halted, its last phase was 'serving'",
        ),
        (
            [op("delete", 14410, user="system")],
            KNOWN,
            14410,
            "google",
            "its longest life of 14400 s was over",
        ),
        ([op("delete", 60, user="system")], KNOWN, 60, "google", "delete by Google"),
        ([op("delete", 60, user="system@google.com")], KNOWN, 60, "google", "delete by Google"),
        ([], KNOWN, 900, "unknown", "it is gone and no operation says why"),
        ([], known(ending=OURS), 900, "reaper", "idle for 20 min"),
        (
            [op("stop", 100), op("start", 200), op("delete", 300)],
            KNOWN,
            200,
            "user",
            "delete by ann@example.com",
        ),
        (
            [op("delete", 50, error="FORBIDDEN: no"), op("delete", 90)],
            KNOWN,
            90,
            "user",
            "delete by ann@example.com",
        ),
    ],
)
def test_life_tells_how_long_and_who_ended_it(
    operations: list[Operation], what: Known, seconds: float, ended_by: str, reason: str
):
    """The end of the running decides; what cleaned up afterwards does not."""
    record = life(op("insert", 0), *operations, known=what)

    assert (record.seconds, record.ended_by, record.reason) == (seconds, ended_by, reason)
    assert record.usd == pytest.approx(seconds / 100)


def test_life_was_ended_by_google_when_our_delete_came_in_the_middle_and_was_done_first():
    """The reaper sees STOPPING and sends its own delete; the preemption was there before."""
    ours = Ending(kind="gone", reason="Compute says STOPPING", operations=("ours-1",))
    preemption = op(PREEMPTED, 600, ended=T + 625, user="system")

    told = life(
        preemption, op("delete", 610, name="ours-1", ended=T + 620), known=known(ending=ours)
    )

    assert (told.ended_by, told.reason) == ("google", "preempted")


def test_launch_that_failed_costs_nothing_even_when_the_rate_is_unknown():
    """It is in the book with Google's own words, and without a guess."""
    refused = op("insert", 5, error="ZONE_RESOURCE_POOL_EXHAUSTED: no H100")

    record = life(refused, known=None)

    assert (record.seconds, record.usd, record.ended_by) == (0, 0, "google")
    assert record.reason == "it was never started: ZONE_RESOURCE_POOL_EXHAUSTED: no H100"
    assert record.session == "dev"


def test_waiting_for_capacity_is_not_billed():
    """Flex-start's insert may run for hours before the VM does."""
    waited = op("insert", 0, ended=T + 7200)

    assert life(waited, op("delete", 7260)).seconds == 60


def test_life_never_seen_has_no_rate_and_no_price():
    """Shorter than a run, and its stack is gone too: seconds are known, dollars are not."""
    record = life(op("insert", 0), op("delete", 60), known=None)

    assert (record.seconds, record.usd, record.usd_per_h) == (60, None, None)
    assert (record.vm, record.session, record.zone) == ("mayfly-dev", "dev", "us-east5-a")


def test_life_starts_with_its_creation_when_google_has_forgotten_the_insert():
    """Operations are kept for about two weeks; a long life outlasts them."""
    record = life(op("delete", 600))

    assert record.seconds == 600
    assert record.created == "2027-01-15T08:00:00Z"


def test_life_is_not_over_while_an_operation_runs():
    """A record written now could never be corrected."""
    assert not is_over([op("insert", 0), op("delete", 60, ended=None)])
    assert is_over([op("insert", 0), op("delete", 60)])


def test_operation_is_read_from_computes_resource():
    """Times come in Pacific time, errors in a list."""
    raw = {
        "name": "operation-1",
        "operationType": "insert",
        "targetLink": instance("42")["selfLink"],
        "targetId": "42",
        "zone": instance("42")["zone"],
        "user": "ann@example.com",
        "status": "DONE",
        "insertTime": "2027-01-15T00:00:00.000-08:00",
        "endTime": "2027-01-15T00:00:09.500-08:00",
        "error": {"errors": [{"code": "QUOTA_EXCEEDED", "message": "Quota\n'X' exceeded"}]},
    }

    read = parse_operation(raw)

    assert read is not None
    assert (read.started, read.ended) == (T, T + 9.5)
    assert (read.vm_id, read.vm, read.zone) == ("42", "mayfly-dev", "us-east5-a")
    assert read.error == "QUOTA_EXCEEDED: Quota 'X' exceeded"


@pytest.mark.parametrize(
    "change",
    [
        {"targetLink": "https://x/zones/z/instances/database"},
        {"targetLink": "https://x/zones/z/disks/mayfly"},
        {"targetId": None},
        {"insertTime": "yesterday"},
    ],
)
def test_operation_is_skipped_when_it_is_not_about_a_vm_of_ours(change: dict[str, Any]):
    """The filter is Google's; what it lets through is looked at again."""
    raw = {
        "targetLink": instance("42")["selfLink"],
        "targetId": "42",
        "insertTime": "2027-01-15T00:00:00.000-08:00",
        **change,
    }

    assert parse_operation(raw) is None
