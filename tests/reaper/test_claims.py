"""Text from a VM, its metadata, a lease: whatever it holds, the run goes on."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mayfly import claims
from mayfly.idle import Limits
from reaper import vm
from reaper.claims import timeline
from reaper.vm import DEFAULT_LIMITS, LONGEST_S
from tests.reaper.world import SETTINGS, instance

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from([*SETTINGS, "layer"]), JSON))
def test_settings_never_break_a_run_nor_lift_a_limit(told: dict[str, Any]):
    """Anybody with setMetadata can write them."""
    limits = vm.parse(instance("42", settings=json.dumps(told))).limits

    for value in vars(limits).values():
        assert 0 < value <= LONGEST_S
    assert limits.max_life_s <= 14400, "Compute's own limit holds"


@given(st.text())
def test_timeline_never_breaks_a_run(text: str):
    """Any process on the VM can write it."""
    assert isinstance(timeline(text), tuple)


@given(JSON)
def test_timeline_keeps_only_what_the_contract_names(found: Any):
    """The ledger must not become a place to put things."""
    for entry in timeline(json.dumps(found)):
        assert set(entry) == {"stage", "start", "end", "bytes", "ok"}


def test_timeline_is_dropped_when_it_is_larger_than_agreed():
    """8 KiB a VM, 200 VMs, every five minutes."""
    stage = {"stage": "weights", "start": None, "end": None, "bytes": None, "ok": None}

    assert timeline(json.dumps([stage])) == (stage,)
    assert timeline(json.dumps([{**stage, "stage": "x" * 9000}])) == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("\x1b[2Jclear", "[2Jclear"),
        ("\u202eright to left", "right to left"),
        ("x" * 5000, "x" * 1024),
        ("", None),
        (7, None),
    ],
)
def test_line_is_one_printable_line(text: object, line: str | None):
    """It is shown in a terminal later."""
    assert claims.line(text) == line


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2027-01-15T00:00:00.250-08:00", 1_800_000_000.25),
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15T08:00:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_moment_reads_googles_times(text: object, at: float | None):
    """With an offset or not at all: a local time is nobody's."""
    assert claims.moment(text) == at


def test_limits_are_the_vms_own_when_it_has_them():
    """Each session may have been started with other limits."""
    told = {**SETTINGS, "idle_s": 60, "max_life_s": 7200.5}

    assert vm.parse(instance("42", settings=told)).limits == Limits(
        idle_s=60, start_s=1800, failed_s=300, heartbeat_s=300, max_life_s=7200.5
    )


def test_limits_are_the_defaults_when_settings_and_compute_say_nothing():
    """A VM without any of it still ends."""
    bare = instance("42", settings="", scheduling={})

    assert vm.parse(bare).limits == DEFAULT_LIMITS
