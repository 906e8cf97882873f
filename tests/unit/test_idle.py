"""The rule that ends a VM. It can fail two ways: a bill overnight, or a session cut off at work."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mayfly import idle

LIMITS = idle.Limits(idle_s=1200, start_s=1800, failed_s=300, heartbeat_s=300, max_life_s=14400)
T0 = 1_800_000_000.0

seconds = st.floats(0, 20_000, allow_nan=False)
maybe = st.none() | seconds.map(lambda s: T0 + s)
observations = st.builds(
    idle.Observation,
    status=st.sampled_from(["PROVISIONING", "STAGING", "RUNNING", "REPAIRING", "TERMINATED", "?"]),
    created_at=st.just(T0),
    phase=st.none() | st.sampled_from(sorted(idle.PHASES)),
    heartbeat_at=maybe,
    active_at=maybe,
    lease_until=maybe,
)
limits = st.builds(
    idle.Limits,
    idle_s=st.floats(1, 5000),
    start_s=st.floats(1, 5000),
    failed_s=st.floats(1, 5000),
    heartbeat_s=st.floats(1, 5000),
    max_life_s=st.floats(1, 20_000),
)


def look(**changes: object) -> idle.Observation:
    """A VM that has served for an hour, was active a minute ago and beats."""
    usual = idle.Observation(
        status="RUNNING",
        created_at=T0,
        phase="serving",
        heartbeat_at=T0 + 3600,
        active_at=T0 + 3540,
        lease_until=None,
    )
    return replace(usual, **changes)


def at(text_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(text_s))


@given(observations, limits, seconds)
def test_verdict_ends_whatever_is_claimed_when_the_deadline_has_passed(seen, bounds, late):
    """The deadline is the one promise about money that no claim and no lease may move."""
    now = T0 + bounds.max_life_s + late

    assert idle.verdict(seen, bounds, now).end


@given(observations, limits, seconds)
def test_verdict_names_an_end_before_the_deadline_when_it_does_not_end_now(seen, bounds, age):
    """`mayfly status` shows ends_at: it must be a time that comes."""
    found = idle.verdict(seen, bounds, T0 + age)

    if not found.end:
        assert found.ends_at is not None
        assert T0 + age <= found.ends_at <= T0 + bounds.max_life_s


@given(observations, limits, seconds)
def test_verdict_keeps_its_word_when_nothing_changes(seen, bounds, age):
    """A VM seen again at ends_at, unchanged, ends: no verdict puts itself off for ever."""
    now = T0 + age
    for _ in range(6):  # leased -> idle -> silent ...: each step strictly later
        found = idle.verdict(seen, bounds, now)
        if found.end:
            return
        now = found.ends_at + 0.001
    raise AssertionError(found)


@given(limits, seconds, st.floats(0, 0.999), st.floats(0, 1))
def test_verdict_never_ends_when_activity_is_younger_than_idle_s(bounds, age, part, beat):
    """A request was answered less than idle_s ago: ending now cuts a session off at work."""
    bounds = replace(bounds, max_life_s=1e6)
    now = T0 + age
    active = now - part * bounds.idle_s
    fresh = now - beat * 0.99 * min(bounds.heartbeat_s, now - active)
    seen = look(active_at=active, heartbeat_at=fresh)

    found = idle.verdict(seen, bounds, now)

    assert not found.end, found


@given(limits, st.integers(1, 200), seconds)
def test_verdict_ends_by_one_period_after_idle_s_when_the_watchdog_beats(bounds, looks, idle_from):
    """The bill for a forgotten machine is idle_s and one look, not more."""
    bounds = replace(bounds, max_life_s=1e6, heartbeat_s=1e5)
    period = bounds.idle_s / looks
    active = T0 + idle_from
    times = [active + n * period for n in range(looks + 2)]
    ended_at = next(
        t for t in times if idle.verdict(look(active_at=active, heartbeat_at=t), bounds, t).end
    )

    # 1 ms: floats at 1.8e9 carry no more
    assert bounds.idle_s - 0.001 <= ended_at - active <= bounds.idle_s + period + 0.001


hostile = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.binary(max_size=8).map(repr),
    st.integers(),
    st.floats(),
    st.just("9" * 2000),
    st.integers(0, 2**32).map(at),
    st.sampled_from(sorted(idle.PHASES)),
)


@given(
    st.none() | st.dictionaries(st.sampled_from(["phase", "heartbeat", "active_at", "x"]), hostile),
    st.none() | st.floats(),
    seconds,
)
def test_parse_never_raises_and_never_lives_past_the_deadline_when_claims_are_hostile(
    attributes, lease, age
):
    """Any process on the VM can write guest attributes; the reaper must survive all of them."""
    now = T0 + age
    seen = idle.parse_observation("RUNNING", T0, attributes, lease, now)
    found = idle.verdict(seen, LIMITS, now)

    assert seen.heartbeat_at is None or seen.heartbeat_at <= now
    assert seen.active_at is None or seen.active_at <= now
    assert idle.verdict(seen, LIMITS, T0 + LIMITS.max_life_s).end
    assert found.end or found.ends_at <= T0 + LIMITS.max_life_s


@pytest.mark.parametrize(
    "claim",
    [
        "2027-01-15T08:00:00+00:00",
        "2027-01-15 08:00:00Z",
        "2027-01-15T08:00:00.5Z",
        "2027-13-15T08:00:00Z",
        " 2027-01-15T08:00:00Z",
        "٢٠٢٧-01-15T08:00:00Z",
        "",
    ],
)
def test_parse_ignores_a_time_when_it_is_not_exactly_ours(claim):
    """A lenient parser is a second format that nobody tested."""
    assert idle.parse_time(claim) is None


def test_parse_ignores_a_time_when_it_lies_in_the_future():
    """Otherwise one write of `active_at` buys a machine until its deadline."""
    seen = idle.parse_observation("RUNNING", T0, {"active_at": at(T0 + 60)}, None, T0)

    assert seen.active_at is None


def test_parse_takes_the_next_seconds_for_now_when_clocks_differ_a_little():
    """The VM's clock a second ahead must not read as "no heartbeat"."""
    seen = idle.parse_observation("RUNNING", T0 - 9, {"heartbeat": at(T0 + 1)}, None, T0)

    assert seen.heartbeat_at == T0


def test_parse_calls_it_failed_when_the_phase_is_unknown():
    """An unknown phase means nobody can say what runs there."""
    assert idle.parse_observation("RUNNING", T0, {"phase": "zen"}, None, T0).phase == "failed"


def test_parse_knows_nothing_when_there_are_no_attributes_yet():
    """404 is how a VM that has just been made looks."""
    seen = idle.parse_observation("STAGING", T0, None, None, T0)

    assert (seen.phase, seen.heartbeat_at, seen.active_at) == (None, None, None)


CASES = [
    ("just made", look(phase=None, heartbeat_at=None, active_at=None), 60, "starting"),
    ("loading", look(phase="loading", heartbeat_at=T0 + 595), 600, "starting"),
    ("reboot is silent", look(phase="rebooting", heartbeat_at=T0 + 60), 900, "starting"),
    ("served a minute ago", look(), 3600, "idle"),
    ("active now", look(active_at=T0 + 3600), 3605, "active"),
    ("seeding moves", look(phase="seeding", active_at=T0 + 3600), 3605, "active"),
    ("failed a minute ago", look(phase="failed"), 3600, "failed"),
    ("held though idle", look(active_at=T0 + 9, lease_until=T0 + 7200), 3600, "leased"),
    (
        "held though failed",
        look(phase="failed", active_at=T0, lease_until=T0 + 7200),
        3600,
        "leased",
    ),
    ("held though silent", look(heartbeat_at=T0, lease_until=T0 + 7200), 3600, "leased"),
]
ENDS = [
    ("idle", look(active_at=T0 + 2400), 3600, "idle"),
    ("no heartbeat in start-up", look(phase="weights", heartbeat_at=T0 + 60), 400, "silent"),
    ("no heartbeat while serving", look(), 3900, "silent"),
    ("serving without any heartbeat", look(heartbeat_at=None), 3600, "silent"),
    ("never started", look(phase=None, heartbeat_at=None, active_at=None), 2100, "failed"),
    ("a reboot for ever", look(phase="rebooting", active_at=T0 + 60), 2100, "failed"),
    ("failed and left alone", look(phase="failed", active_at=T0 + 3300), 3600, "failed"),
    ("lease over", look(active_at=T0, lease_until=T0 + 3599), 3600, "idle"),
    ("its own end", look(phase="ended", lease_until=T0 + 9000), 3600, "gone"),
    ("powered off", look(status="TERMINATED", lease_until=T0 + 9000), 3600, "gone"),
    ("deadline", look(active_at=T0 + 14400, lease_until=T0 + 20000), 14400, "deadline"),
]


@pytest.mark.parametrize(("_name", "seen", "age", "kind"), CASES, ids=[c[0] for c in CASES])
def test_verdict_lets_it_live_when(_name, seen, age, kind):
    """Each row is a session that somebody would miss."""
    found = idle.verdict(seen, LIMITS, T0 + age)

    assert (False, kind) == (found.end, found.kind), found


@pytest.mark.parametrize(("_name", "seen", "age", "kind"), ENDS, ids=[c[0] for c in ENDS])
def test_verdict_ends_it_when(_name, seen, age, kind):
    """Each row is a bill that nobody wanted."""
    found = idle.verdict(seen, LIMITS, T0 + age)

    assert (True, kind) == (found.end, found.kind), found


def test_verdict_does_not_call_it_idle_when_the_last_looks_failed():
    """vLLM may be too busy to answer /metrics: unknown is neither idle nor active."""
    seen = look(active_at=T0 + 2500, heartbeat_at=T0 + 3500)

    assert not idle.verdict(seen, LIMITS, T0 + 3750).end  # 1250 s since activity, 1000 s seen
    assert idle.verdict(seen, LIMITS, T0 + 3800).kind == "silent"


def test_verdict_says_how_long_when_it_counts_down():
    """The sentence is shown to the user as it is."""
    found = idle.verdict(look(active_at=T0 + 3000), LIMITS, T0 + 3600)

    assert found.reason == "idle for 10 min of 20 min"
    assert found.ends_at == T0 + 4200
