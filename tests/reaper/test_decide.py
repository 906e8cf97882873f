"""The reaper's judgement, as a table: what is known of a VM or stack, and what follows."""

from dataclasses import replace
from typing import Any

import pytest

from mayfly.idle import Limits
from reaper.decide import LEASE_GRACE_S, judge, leave_stack
from reaper.stack import Stack
from reaper.vm import Vm
from tests.reaper.world import utc

NOW = 1_800_000_000.0
LIMITS = Limits(idle_s=1200, start_s=1800, failed_s=300, heartbeat_s=300, max_life_s=14400)
VM = Vm(
    id="42",
    name="mayfly-dev",
    zone="us-east5-a",
    session="dev",
    status="RUNNING",
    created_at=NOW - 3600,
    limits=LIMITS,
    settings={},
)


def says(idle_s: float = 0, beat_s: float = 0, phase: str = "serving") -> dict[str, str]:
    active = utc(NOW - beat_s - idle_s)
    return {"phase": phase, "heartbeat": utc(NOW - beat_s), "active_at": active}


CASES: list[tuple[str, dict[str, Any], bool, str]] = [
    ("in use", {"attributes": says()}, False, "active"),
    ("idle", {"attributes": says(idle_s=1200)}, True, "idle"),
    ("idle, leased", {"attributes": says(1200), "lease_until": NOW + 60}, False, "leased"),
    ("idle, lease over", {"attributes": says(1200), "lease_until": NOW - 1}, True, "idle"),
    ("watchdog dead", {"attributes": says(beat_s=301)}, True, "silent"),
    ("nothing said, young", {"created_at": NOW - 60}, False, "starting"),
    ("nothing said, old", {}, True, "failed"),
    ("failed", {"attributes": says(idle_s=400, phase="failed")}, True, "failed"),
    ("unheard-of phase", {"attributes": says(idle_s=400, phase="rm -rf")}, True, "failed"),
    ("its own last word", {"attributes": says(phase="ended")}, True, "gone"),
    ("seeded", {"attributes": says(phase="seeded")}, True, "gone"),
    ("halted", {"status": "TERMINATED", "attributes": says()}, True, "gone"),
    ("in use, past its life", {"attributes": says(), "created_at": NOW - 14401}, True, "deadline"),
    (
        "past its life, leased",
        {"attributes": says(), "created_at": NOW - 14401, "lease_until": NOW + 60},
        True,
        "deadline",
    ),
    ("unseen", {"attributes_error": "503"}, False, "unknown"),
    ("unseen, halted", {"attributes_error": "503", "status": "TERMINATED"}, True, "gone"),
    (
        "unseen, past its life",
        {"attributes_error": "503", "created_at": NOW - 14401},
        True,
        "deadline",
    ),
    ("leases unread, idle", {"attributes": says(1200), "lease_known": False}, False, "idle"),
    (
        "leases unread, idle for three runs more",
        {"attributes": says(1200 + LEASE_GRACE_S), "lease_known": False},
        True,
        "idle",
    ),
    (
        "leases unread, watchdog dead",
        {"attributes": says(beat_s=301 + LEASE_GRACE_S), "lease_known": False},
        True,
        "silent",
    ),
    (
        "leases unread, past its life",
        {"attributes": says(), "lease_known": False, "created_at": NOW - 14401},
        True,
        "deadline",
    ),
]


@pytest.mark.parametrize(
    ("known", "end", "kind"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_vm_is_judged_by_what_is_known_of_it(known: dict[str, Any], end: bool, kind: str):
    """One row a situation; a row that changes is a promise that changes."""
    verdict = judge(replace(VM, **known), NOW)

    assert (verdict.end, verdict.kind) == (end, kind), verdict


def test_unseen_vm_says_what_was_not_seen_and_when_it_ends_anyway():
    """`mayfly status` and the log must not call it idle or fine."""
    verdict = judge(replace(VM, attributes_error="GET x: 503"), NOW)

    assert verdict.reason == "not seen: GET x: 503"
    assert verdict.ends_at == VM.created_at + LIMITS.max_life_s


@pytest.mark.parametrize(
    ("stack", "why"),
    [
        (Stack(name="dev", leftovers=("gcp:compute/instance:Instance",)), ""),
        (Stack(name="dev"), "it is empty"),
        (Stack(name="base", leftovers=("command:local:Command",)), "it is the foundation"),
        (
            Stack(name="x", leftovers=("a:b:Bucket",), foreign=("a:b:Bucket",)),
            "it holds a:b:Bucket",
        ),
        (Stack(name="x", leftovers=("c",), protected=("urn:1",)), "it protects urn:1"),
    ],
)
def test_stack_is_left_unless_it_is_a_session(stack: Stack, why: str):
    """By what it holds, not by what it is called: a name can be anything."""
    assert leave_stack(stack, "base") == why
