"""When a VM ends: one rule, and the same file decides on the VM and in the function.

Standard library only, and Python 3.10, which some images still carry.

A guest attribute is a claim that any process on the VM can make. It can shorten a VM's life or
stretch it to the deadline, never past it.
"""

import calendar
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

STARTING = frozenset({"booting", "driver", "rebooting", "engine", "weights", "loading", "checking"})
WORKING = frozenset({"serving", "seeding"})
DONE = frozenset({"ended", "seeded", "probed"})
PHASES = STARTING | WORKING | DONE | {"failed"}

# Compute's states in which the guest no longer runs and will not again: mayfly restarts no VM.
GONE = frozenset({"STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING"})

MAX_CLAIM_BYTES = 1024
# Two machines' clocks and one rounding to whole seconds: nearer than this, the future is now.
CLOCK_SKEW_S = 5.0

# How long a watch holds; whoever watches renews it three times as often.
WATCH_S = 180.0

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long each state may last, in seconds; max_life_s, from creation, beats the rest."""

    idle_s: float
    start_s: float
    failed_s: float
    heartbeat_s: float
    max_life_s: float


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look at a VM. Times are seconds on one clock (Unix time in the function).

    None = not known.

    heartbeat_at is the last *complete* look of the watchdog. A probe that failed is neither idle
    nor active: it holds the heartbeat back, so that nothing is called idle unseen.
    """

    status: str
    created_at: float
    phase: str | None
    heartbeat_at: float | None
    active_at: float | None
    lease_until: float | None


@dataclass(frozen=True)
class Lease:
    """`leases/<session>`: somebody's wish to keep a VM, within its deadline.

    until: Unix seconds. vm_id: the VM that is meant; None = whichever bears the session's name.
    """

    until: float
    by: str
    vm_id: str | None

    def holds(self, vm_id: str | None) -> bool:
        """False for another VM: a lease must not outlive its own into the next session."""
        return self.vm_id is None or vm_id is None or self.vm_id == vm_id

    def is_fresh(self, now: float) -> bool:
        """For a watch (`names.watch`): somebody renews it. No renewal puts it far ahead."""
        return now < self.until <= now + 2 * WATCH_S


@dataclass(frozen=True)
class Verdict:
    """What to do with a VM. ends_at: when this turns into an end if nothing is seen to change."""

    end: bool
    kind: str
    reason: str
    ends_at: float | None


def verdict(observation: Observation, limits: Limits, now: float) -> Verdict:
    """Say whether the VM ends now, or when it will: never later than its deadline. Never raises."""
    deadline = observation.created_at + limits.max_life_s
    if observation.status in GONE:
        return Verdict(True, "gone", f"Compute says {observation.status}", now)
    if not now < deadline:
        lived = _span(limits.max_life_s)
        return Verdict(True, "deadline", f"its longest life of {lived} is over", deadline)
    if observation.phase in DONE:
        return Verdict(True, "gone", f"its own last word was {observation.phase!r}", now)
    found = _by_phase(observation, limits, now)
    lease = observation.lease_until
    if lease is not None and lease > now:
        after = lease if found.ends_at is None else max(lease, found.ends_at)
        found = Verdict(False, "leased", f"a lease holds it for {_span(lease - now)} more", after)
    if found.ends_at is not None:
        found = replace(found, ends_at=min(found.ends_at, deadline))
    return found


def parse_observation(
    status: str,
    created_at: float,
    attributes: Mapping[str, str] | None,
    lease_until: float | None,
    now: float,
) -> Observation:
    """Read the VM's claims strictly: what is malformed, oversized or from the future is not known.

    attributes: guest attributes without namespace; None = there are none yet (404).
    An unknown phase is "failed". Times are Unix seconds. Never raises.
    """
    claims = attributes if attributes is not None else {}
    lease = lease_until if lease_until is not None and math.isfinite(lease_until) else None
    return Observation(
        status=status,
        created_at=created_at,
        phase=_phase(claims.get("phase")),
        heartbeat_at=_past(claims.get("heartbeat"), now),
        active_at=_past(claims.get("active_at"), now),
        lease_until=lease,
    )


def parse_lease(data: bytes) -> Lease | None:
    """What a lease's file says; None for anything malformed. Never raises."""
    if len(data) > MAX_CLAIM_BYTES:
        return None
    try:
        raw = json.loads(data)
        until, by, vm_id = parse_time(raw["until"]), raw.get("by"), raw.get("vm_id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if until is None or not isinstance(vm_id, str | None):
        return None
    return Lease(until, by if isinstance(by, str) else "", vm_id)


def parse_time(text: object) -> float | None:
    """Unix seconds of `YYYY-MM-DDTHH:MM:SSZ`; None for anything else."""
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        return None
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


def rfc3339(at: float | None) -> str | None:
    """`YYYY-MM-DDTHH:MM:SSZ` of Unix seconds, as `parse_time` reads it; None stays None."""
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _phase(claim: object) -> str | None:
    if claim is None:
        return None
    return claim if isinstance(claim, str) and claim in PHASES else "failed"


def _past(claim: object, now: float) -> float | None:
    if isinstance(claim, str) and len(claim) > MAX_CLAIM_BYTES:
        return None
    at = parse_time(claim)
    if at is None or at > now + CLOCK_SKEW_S:
        return None
    return min(at, now)


def _by_phase(seen: Observation, limits: Limits, now: float) -> Verdict:
    if seen.phase == "failed":
        return _failed(_last_active(seen), limits, now, "it failed")
    if seen.phase in WORKING:
        return _working(seen, limits, now)
    return _starting(seen, limits, now)


def _last_active(seen: Observation) -> float:
    return seen.created_at if seen.active_at is None else max(seen.active_at, seen.created_at)


def _failed(since: float, limits: Limits, now: float, what: str) -> Verdict:
    """Somebody at its terminal moves `since`: a failed VM can be looked into."""
    ends_at = since + limits.failed_s
    reason = f"{what} and nobody has worked on it for {_span(now - since)}"
    return Verdict(now >= ends_at, "failed", reason, ends_at)


def _silent(heartbeat_at: float, now: float) -> Verdict:
    reason = f"no complete heartbeat for {_span(now - heartbeat_at)}"
    return Verdict(True, "silent", reason, now)


def _starting(seen: Observation, limits: Limits, now: float) -> Verdict:
    until = seen.created_at + limits.start_s
    ends_at = until + limits.failed_s
    # A reboot cannot beat, and before the first beat there is nothing to miss.
    if seen.heartbeat_at is not None and seen.phase != "rebooting":
        silent_at = seen.heartbeat_at + limits.heartbeat_s
        if now >= silent_at:
            return _silent(seen.heartbeat_at, now)
        ends_at = min(ends_at, silent_at)
    phase = seen.phase or "booting"
    if now >= until:
        since = max(until, _last_active(seen))
        late = f"it was still {phase} {_span(now - seen.created_at)} after its creation"
        return _failed(since, limits, now, late)
    reason = f"starting ({phase}), {_span(until - now)} left for it"
    return Verdict(False, "starting", reason, ends_at)


def _working(seen: Observation, limits: Limits, now: float) -> Verdict:
    beat = seen.created_at if seen.heartbeat_at is None else seen.heartbeat_at
    silent_at = beat + limits.heartbeat_s
    active = _last_active(seen)
    # Idle is what was seen to be idle: up to the last complete look, not up to now.
    idle_s = beat - active
    if idle_s >= limits.idle_s:
        return Verdict(True, "idle", f"idle for {_span(idle_s)}", now)
    if now >= silent_at:
        return _silent(beat, now)
    idle_at = active + limits.idle_s
    ends_at = idle_at if idle_at > now else silent_at
    if idle_s <= 1:  # one rounding to whole seconds: active at the last look
        return Verdict(False, "active", f"{seen.phase} and active", ends_at)
    reason = f"idle for {_span(idle_s)} of {_span(limits.idle_s)}"
    return Verdict(False, "idle", reason, ends_at)


def _span(seconds: float) -> str:
    """Seconds in words for people: "45 s", "12 min", "3.5 h"."""
    if not math.isfinite(seconds):
        return "ever"
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
