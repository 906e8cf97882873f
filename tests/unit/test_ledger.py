"""The ledger: the one place that says what a session cost."""

import json
from dataclasses import replace

import pytest

from mayfly.errors import FailedError
from mayfly.ledger import Record, cost_usd, from_json

RECORD = Record(
    instance_id="42",
    vm="mayfly-dev",
    zone="us-east5-a",
    layer="session",
    session="dev",
    profile="kimi-k2.5",
    started_by="ann@example.com",
    machine="a3-highgpu-8g",
    provisioning="spot",
    created="2026-11-23T07:00:00Z",
    ended="2026-11-23T08:30:00Z",
    seconds=5400.0,
    usd_per_h=35.12,
    rate_source="a source",
    rate_date="2026-06-01",
    usd=52.68,
    ended_by="reaper",
    reason="idle for 20 min",
    timeline=({"stage": "driver", "start": None, "end": None, "bytes": None, "ok": True},),
)


def test_record_survives_a_round_trip():
    """What the function writes is what `mayfly cost` reads, months later."""
    assert from_json(RECORD.to_json(), "ledger/42.json") == RECORD


def test_record_has_the_same_bytes_when_written_twice():
    """A repeated write is recognised by its bytes."""
    assert RECORD.to_json() == replace(RECORD).to_json()


@pytest.mark.parametrize(
    ("seconds", "rate", "expected"),
    [(5400, 35.12, 52.68), (0, 35.12, 0.0), (37.5, 24.0, 0.25), (3600, None, None)],
)
def test_cost_is_seconds_times_rate(seconds: float, rate: float | None, expected: float | None):
    """An unknown rate gives an unknown cost: a guess would be believed."""
    assert cost_usd(seconds, rate) == expected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format 1"),
        ({"seconds": "5400"}, "seconds '5400'"),
        ({"seconds": -1}, "seconds -1"),
        ({"usd": True}, "usd True"),
        ({"usd_per_h": float("inf")}, "usd_per_h inf"),
        ({"created": 20261123}, "created 20261123 is not text"),
        ({"timeline": "driver"}, "timeline is not a list"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_reading_names_object_and_fault_when_a_record_is_bad(
    change: dict[str, object], complaint: str
):
    """One bad object must be findable among a year of them."""
    raw = {**json.loads(RECORD.to_json()), **change}

    with pytest.raises(FailedError, match=complaint) as caught:
        from_json(json.dumps(raw).encode(), "ledger/42.json")

    assert str(caught.value).startswith("ledger/42.json: ")


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b'"x"'])
def test_reading_refuses_what_is_not_a_record(data: bytes):
    """Half an object is a failure that names the object, not a traceback."""
    with pytest.raises(FailedError, match=r"ledger/1\.json: "):
        from_json(data, "ledger/1.json")


def test_reading_names_the_field_that_is_missing():
    """A record without `ended_by` answers nothing."""
    raw = json.loads(RECORD.to_json())
    del raw["ended_by"]

    with pytest.raises(FailedError, match="no 'ended_by'"):
        from_json(json.dumps(raw).encode(), "x")
