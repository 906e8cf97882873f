"""Whatever happens on a machine, in whatever order: never cut off at work, never left to run.

Hypothesis makes up the days of a machine; the real watchdog and its real probes look at them.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mayfly import idle
from startup import probes, processes, watchdog
from tests.traces.simulated import WALL0, Simulated, simulated

LIMITS = idle.Limits(idle_s=240, start_s=360, failed_s=60, heartbeat_s=60, max_life_s=86_400)
PERIOD_S = watchdog.period_s(LIMITS)
LOOKS_TO_IDLE = int(LIMITS.idle_s / PERIOD_S)
EDITOR = "/home/ann/.vscode-server/cli/servers/Stable-7adae6a/server/node"

few = settings(max_examples=40)
# A twin wants one counterexample, not the smallest.
hunt = settings(max_examples=300, database=None, phases=[Phase.generate])


@dataclass
class Day:
    """A machine that serves, and what has truly happened on it. Times: seconds since creation."""

    machine: Simulated
    counted: float = 0.0
    worked_at: float = 0.0
    used: dict[str, float] = field(default_factory=lambda: {"exec": 0, "copy": 0, "editor": 0})
    typed_s: float = 10.0

    def begin(self) -> "Day":
        """It starts, then serves; nobody has asked anything."""
        self.machine.phase("weights")
        self.pass_one()
        self.machine.phase("serving")
        self.worked_at = self.machine.at
        self.pass_one()
        return self

    def pass_one(self) -> idle.Verdict:
        """A period passes and the watchdog looks."""
        self.machine.at += PERIOD_S
        return self.machine.look()


# --- what people do: each is work, seen or not -------------------------------------------------


def asks(day: Day) -> None:
    """Answered between two looks: only counters tell."""
    day.counted += 17
    day.machine.counters(prompt=day.counted, generation=day.counted, success=day.counted)


def prefill(day: Day) -> None:
    """A long prompt: for minutes no counter moves."""
    day.machine.counters(**counted(day), running=1)


def generation(day: Day) -> None:
    """One answer of many tokens; none is finished."""
    day.counted += 1000
    day.machine.counters(generation=day.counted, prompt=5, running=1)


def waits(day: Day) -> None:
    """Queued: nothing runs for it yet."""
    day.machine.counters(**counted(day), waiting=1)


def types(day: Day) -> None:
    day.typed_s += 8
    day.machine.terminal("0", typed_s=day.typed_s)


def executes(day: Day) -> None:
    day.used["exec"] += PERIOD_S * 0.2
    login(day)
    day.machine.process(12, {"comm": "python3", "parent": 11, "cpu_s": day.used["exec"]})


def copies(day: Day) -> None:
    day.used["copy"] += PERIOD_S * 50_000
    login(day)
    day.machine.process(13, {"comm": "sftp-server", "parent": 11, "moved": int(day.used["copy"])})


def restarted_and_asked(day: Day) -> None:
    """vLLM came back with its counters at zero, and has served one since."""
    day.counted = 3 if day.counted != 3 else 2
    day.machine.counters(prompt=day.counted, generation=day.counted, success=1)


# --- what is no work ---------------------------------------------------------------------------


def nothing(day: Day) -> None:
    quiet(day)


def tunnel(day: Day) -> None:
    """Bytes that sshd forwards, a dashboard's polls and keepalives all night."""
    quiet(day)
    moved = int(day.machine.at * 1e6)
    day.machine.process(10, {"comm": "sshd", "parent": 1, "cpu_s": day.machine.at, "moved": moved})


def editor(day: Day) -> None:
    """VS Code was left open: it scans for ports, its servers index, a shell in it waits."""
    quiet(day)
    login(day)
    day.used["editor"] += PERIOD_S
    spent_s = day.used["editor"]
    facts = {"comm": "node", "cpu_s": spent_s, "moved": int(spent_s * 300_000), "exe": EDITOR}
    day.machine.process(14, {**facts, "parent": 11})
    day.machine.process(15, {"comm": "bash", "parent": 14, "moved": 900})


def connects_again(day: Day) -> None:
    quiet(day)
    day.machine.terminal("0", typed_s=None)
    day.machine.terminal("1", typed_s=0)
    day.machine.terminal("1", typed_s=None)
    day.typed_s = 10.0


def shell_waits(day: Day) -> None:
    quiet(day)
    login(day)
    day.machine.process(16, {"comm": "bash", "parent": 11, "tty": 34816, "cpu_s": 0.2})


def restarted(day: Day) -> None:
    """vLLM came back with nothing served."""
    day.counted = 0
    day.machine.counters()


def clock_forward(day: Day) -> None:
    quiet(day)
    day.machine.wall_jump_s += 86_400


def clock_back(day: Day) -> None:
    quiet(day)
    day.machine.wall_jump_s -= 86_400


def watchdog_killed(day: Day) -> None:
    quiet(day)
    day.machine.start()


def counted(day: Day) -> dict[str, float]:
    return dict.fromkeys(("prompt", "generation", "success"), day.counted)


def quiet(day: Day) -> None:
    day.machine.counters(**counted(day))


def login(day: Day) -> None:
    day.machine.process(10, {"comm": "sshd", "parent": 1})
    day.machine.process(11, {"comm": "sshd-session", "parent": 10})


Act = Callable[[Day], None]
WORK: list[Act] = [
    *(asks, prefill, generation, waits, types, executes, copies, restarted_and_asked)
]
NOISE: list[Act] = [
    *(nothing, tunnel, editor, connects_again, shell_waits, restarted, clock_forward, clock_back),
    watchdog_killed,
]
# What a machine does for how many looks. Breaks between work stay below the limit.
stretches = st.lists(
    st.tuples(st.sampled_from(WORK), st.integers(1, 6))
    | st.tuples(st.sampled_from(NOISE), st.integers(1, 6)),
    max_size=14,
)
pauses = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NOISE), min_size=1, max_size=LOOKS_TO_IDLE - 2),
        st.sampled_from(WORK),
    ),
    min_size=1,
    max_size=6,
)


@contextlib.contextmanager
def serving_day(limits: idle.Limits = LIMITS) -> Iterator[Day]:
    with simulated(limits) as machine:
        yield Day(machine).begin()


def spend(day: Day, act: Act) -> idle.Verdict:
    """One period in which this happens; the reaper's look included."""
    act(day)
    if act in WORK:
        day.worked_at = day.machine.at
    verdict = day.pass_one()
    since_s = day.machine.at - day.worked_at
    if since_s < LIMITS.idle_s:
        assert not verdict.end, (act.__name__, since_s, verdict)
        for later_s in (0, PERIOD_S - 1):  # just after the look, and just before the next
            theirs = day.machine.reaper(later_s)
            assert not theirs.end, (act.__name__, since_s, theirs, day.machine.guest)
    return verdict


def stays_in_use(plan: list[tuple[list[Act], Act]]) -> None:
    """Work after each pause shorter than the limit: it never ends."""
    with serving_day() as day:
        for pause, work in plan:
            for act in pause:
                spend(day, act)
            spend(day, work)
        assert day.machine.ended_at is None


def ends_when_left(plan: list[tuple[Act, int]], last: Act, noise: list[Act]) -> None:
    """Whatever was before, from the last work on there is only noise: it ends, in time."""
    with serving_day() as day:
        for act, looks in plan:
            for _ in range(looks):
                if spend(day, act).end:
                    return  # a long enough pause; `spend` has seen that it was
        spend(day, last)
        seen_at = day.machine.at
        for n in range(LOOKS_TO_IDLE + 3):
            if spend(day, noise[n % len(noise)]).end:
                break
        assert day.machine.ended_at is not None, "it runs on"
        assert day.machine.ended_at <= seen_at + LIMITS.idle_s + PERIOD_S


@few
@given(pauses)
def test_session_never_ends_when_work_comes_back_within_the_limit(plan):
    """Somebody at work loses a session that took twenty minutes to start."""
    stays_in_use(plan)


@few
@given(stretches, st.sampled_from(WORK), st.lists(st.sampled_from(NOISE), min_size=1, max_size=5))
def test_session_always_ends_one_period_after_the_limit_when_only_noise_is_left(plan, last, noise):
    """Somebody forgot it; the bill is the limit and one look."""
    ends_when_left(plan, last, noise)


@few
@given(
    st.lists(st.sampled_from(NOISE), min_size=1, max_size=60),
    st.integers(1, 40),
    st.booleans(),
)
def test_session_stays_under_its_lease_and_ends_after_it_when_nobody_works(noise, looks, down):
    """A lease is a promise in both directions; storage that falls silent does not break it."""
    with serving_day() as day:
        until = day.machine.at + LIMITS.idle_s + looks * PERIOD_S
        day.machine.keep(until)
        for n in range(LOOKS_TO_IDLE + looks + 1):
            noise[n % len(noise)](day)
            verdict = day.pass_one()
            day.machine.storage_down = down and n > LOOKS_TO_IDLE // 2
            if day.machine.at < until:
                assert not verdict.end, (day.machine.at, until, verdict)
                assert not day.machine.reaper().end
        day.machine.storage_down = False
        for n in range(3):
            noise[n % len(noise)](day)
            day.pass_one()
        assert day.machine.ended_at is not None
        assert until <= day.machine.ended_at <= until + 2 * PERIOD_S


@few
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_session_stays_when_some_looks_fail_and_work_goes_on(gaps):
    """An engine too busy to answer /metrics is not idle. Three looks are below every limit."""
    with serving_day() as day:
        for missing in gaps:
            day.machine.metrics = None
            for _ in range(missing):
                verdict = day.pass_one()
                assert not verdict.end, verdict
                assert not day.machine.reaper().end
            asks(day)
            day.worked_at = day.machine.at
            assert not day.pass_one().end


@few
@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_session_ends_all_the_same_when_looks_fail_now_and_then(seen):
    """Samples that are missing may put the end off, by their own number and a failed limit."""
    with serving_day() as day:
        began = day.machine.at
        for n in range(400):
            good = seen[n % len(seen)]
            quiet(day)
            if not good:
                day.machine.metrics = None
            if day.pass_one().end:
                break
        bound = LIMITS.idle_s + LIMITS.heartbeat_s + LIMITS.start_s + LIMITS.failed_s
        assert day.machine.ended_at is not None
        assert day.machine.ended_at - began <= bound + 2 * PERIOD_S


@pytest.mark.parametrize("act", [prefill, generation, waits], ids=lambda a: a.__name__)
def test_session_stays_when_one_request_takes_forty_minutes(act):
    """A trillion parameters think slowly; nothing is finished until the end."""
    with serving_day() as day:
        for _ in range(int(2400 / PERIOD_S)):
            spend(day, act)
        assert day.machine.ended_at is None


@pytest.mark.parametrize(
    "act", [tunnel, editor, connects_again, shell_waits], ids=lambda a: a.__name__
)
def test_session_ends_when_something_was_left_open_over_night(act):
    """Each has cost somebody a night of GPUs."""
    ends_when_left([], asks, [act])


@few
@given(st.floats(0, 2000), st.sampled_from(sorted(idle.STARTING)), st.booleans())
def test_start_is_never_cut_off_before_its_limit_and_always_after(start_at, phase, silent):
    """Weights take as long as they take, up to startMinutes; a reboot is part of it."""
    limits = replace(LIMITS, start_s=1500)
    with simulated(limits) as machine:
        machine.phase(phase)
        machine.metadata_down = silent
        for _ in range(int((limits.start_s + limits.failed_s) / PERIOD_S) + 2):
            machine.at += PERIOD_S
            verdict = machine.look()
            if machine.at < min(limits.start_s, start_at):
                assert not verdict.end
                assert silent or not machine.reaper().end
        assert machine.ended_at is not None
        assert limits.start_s <= machine.ended_at
        assert machine.ended_at <= limits.start_s + limits.failed_s + PERIOD_S


texts = st.text(max_size=30) | st.binary(max_size=2000).map(lambda b: b.decode("latin-1"))
stamps = st.integers(0, 2**33).map(lambda s: str(idle.rfc3339(float(s))))
wrong = st.one_of(texts, stamps, st.integers(), st.floats(), st.none(), st.lists(texts, max_size=2))
KEYS = ("phase", "heartbeat", "active_at", "message", "timeline", "look", "endpoint")


@given(
    st.none() | st.dictionaries(st.sampled_from(KEYS), wrong),
    st.binary(max_size=1100)
    | st.dictionaries(st.sampled_from(["until", "by", "vm_id"]), wrong).map(
        lambda d: repr(d).encode()
    )
    | stamps.map(lambda s: f'{{"until":"{s}"}}'.encode()),
    st.floats(0, LIMITS.max_life_s - 1),
)
@settings(max_examples=300)
def test_claims_never_crash_nor_live_past_the_deadline_whatever_they_say(claims, data, age):
    """Any process on the VM writes them; a function that falls over them ends nothing."""
    lease = idle.parse_lease(data)
    until = lease.until if lease is not None and lease.holds("1") else None
    deadline = WALL0 + LIMITS.max_life_s
    for now in (WALL0 + age, deadline, deadline + 1e6):
        seen = idle.parse_observation("RUNNING", WALL0, claims, until, now)
        found = idle.verdict(seen, LIMITS, now)
        assert found.end or (found.ends_at is not None and now <= found.ends_at <= deadline)
        assert found.end or now < deadline


# --- the twins: a policy that is wrong is found -------------------------------------------------


def ignores(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        real = probes.parse_metrics
        patch.setattr(probes, "parse_metrics", lambda text: {**real(text), name: 0.0})

    return mutate


def blind_probe(kind: type) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(kind, "__call__", lambda self, elapsed_s: "")


def busy_probe(kind: type) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(kind, "__call__", lambda self, elapsed_s: "busy")


def forgets(patch: pytest.MonkeyPatch) -> None:
    """A restart that starts the idle clock anew."""
    real = watchdog.paths.read
    patch.setattr(
        watchdog.paths, "read", lambda path: "" if path.name == "watchdog.json" else real(path)
    )


def any_program(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(processes, "_program", lambda folder: "")


def own_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watchdog.Watchdog, "_wall", lambda self, now: self._clock.wall())


ENDS_TOO_EARLY = {
    "requests that wait": ignores("vllm:num_requests_waiting"),
    "requests that run": ignores("vllm:num_requests_running"),
    "keys": blind_probe(probes.Terminals),
    "exec and copies": blind_probe(processes.Processes),
    "Google's clock": own_clock,
}
STAYS_TOO_LONG = {
    "an editor is work": any_program,
    "a restart is work": forgets,
    "a terminal is work": busy_probe(probes.Terminals),
}


@pytest.mark.parametrize("mutation", ENDS_TOO_EARLY)
def test_property_finds_a_policy_that_does_not_see(mutation, monkeypatch):
    """The twin of "never ends": the property must be able to fail."""
    ENDS_TOO_EARLY[mutation](monkeypatch)

    with pytest.raises(AssertionError):
        hunt(given(pauses)(stays_in_use))()


@pytest.mark.parametrize("mutation", STAYS_TOO_LONG)
def test_property_finds_a_policy_that_sees_too_much(mutation, monkeypatch):
    """The twin of "always ends"."""
    STAYS_TOO_LONG[mutation](monkeypatch)
    left = st.lists(st.sampled_from(NOISE), min_size=1, max_size=5)

    with pytest.raises(AssertionError):
        hunt(given(st.just([]), st.sampled_from(WORK), left)(ends_when_left))()
