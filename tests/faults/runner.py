"""Plays scenarios in a place, several at a time, and measures each."""

import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mayfly import names
from tests.faults.conditions import CONDITIONS, at_once
from tests.faults.measure import (
    Keepsakes,
    Result,
    disk_problems,
    gpus,
    keepsakes,
    ledger_problems,
    left_in_compute,
    over_s,
    touched,
    unfinished,
)
from tests.faults.patience import GIVEN_UP, wait_until
from tests.faults.place import Place
from tests.faults.scenario import PAUSED, Scenario
from tests.faults.session import Due, Session
from tests.faults.timing import in_test

# Longer than any bound: what is over its bound is measured, not given up.
PATIENCE_S = 60.0
SETTLE_LIMIT_S = 300.0
# A look takes several calls, and nothing is measured by it.
SETTLE_POLL_S = 1.0


@dataclass
class Played:
    """A scenario on its way: what it wants, and what was found so far."""

    scenario: Scenario
    session: Session
    due: Sequence[Due] = ()
    result: Result = field(default_factory=Result)
    began: float = field(default_factory=time.monotonic)

    def fail(self, error: BaseException) -> None:
        self.session.tell("".join(traceback.format_exception(error)))
        self.result.problems.append(f"{type(error).__name__}: {error}"[:600])


def run_all(
    place: Place, scenarios: Sequence[Scenario], runs: int, first: int = 0
) -> dict[str, list[Result]]:
    """Every scenario so often; those that want the same condition of the place at the same time.

    first: which condition comes first, counted; then those behind it, then those before.
    """
    results: dict[str, list[Result]] = {chosen.name: [] for chosen in scenarios}
    before = keepsakes(place)

    def whole(chosen: Scenario, run: int) -> Played:
        played = _play(place, chosen, run)
        if chosen.condition != PAUSED:  # nobody cleans up there before it is over
            _settle(played, before)
        return played

    order = list(CONDITIONS)[first:] + list(CONDITIONS)[:first]
    for name in order:
        # Those with a duration of their own take longest: first, or they would run on alone.
        mine = [chosen for chosen in scenarios if chosen.condition == name]
        group = sorted(mine, key=lambda chosen: not chosen.config)
        if not group:
            continue
        numbers = [run for run in range(1, runs + 1) for _ in group]
        with CONDITIONS[name](place), ThreadPoolExecutor(at_once(name)) as pool:
            try:
                played = list(pool.map(whole, group * runs, numbers))
            except KeyboardInterrupt:
                GIVEN_UP.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for one in played:
            if name == PAUSED:
                _settle(one, before)
            results[one.scenario.name].append(one.result)
    return results


def _play(place: Place, chosen: Scenario, run: int) -> Played:
    """Bring it about and wait for its end; a failure is a problem in its result."""
    session = Session(place, f"{chosen.name[:34]}-{run}", in_test(chosen.config))
    played = Played(chosen, session)
    played.result.log = session.log.name
    try:
        place.configure(session.stack, chosen.config)
        place.pulumi(session.stack, "stack", "init")
        played.due = chosen.play(session)
        for one in played.due:
            session.tell(f"VM {one.vm_id} is due in {one.at - time.time():.1f} s, by {one.by}")
        limit_s = max((one.at - time.time() for one in played.due), default=0.0)
        limit_s = max(limit_s, 0.0) + chosen.bound(session.timing) + PATIENCE_S
        wait_until(lambda: _is_over(session), limit_s)
    except Exception as error:
        played.fail(error)
    _measure(played)
    return played


def _is_over(session: Session) -> bool:
    session.keep_serial()
    return session.halted()


def _measure(played: Played) -> None:
    session, result = played.session, played.result
    lives = session.lives()
    result.processes = len(session.processes)
    result.over_s = round(over_s(lives, played.due), 1)
    bound_s = played.scenario.bound(session.timing)
    if result.over_s > bound_s:
        result.problems.append(f"{result.over_s:.1f} s over, the bound is {bound_s:.1f} s")
    now = left_in_compute(session.place, session.vm_name)
    result.left, result.disk_gb = session.left or now
    for life in lives:
        ended = "lives" if life.ended is None else f"{life.ended - life.began:.1f} s"
        session.tell(f"VM {life.vm_id}: {ended}; {result.over_s:.1f} s over")


def _settle(played: Played, before: Keepsakes) -> None:
    """Wait until the reaper has cleaned up; what is left then, and what the ledger says."""
    session, result, place = played.session, played.result, played.session.place
    try:
        wait_until(lambda: not unfinished(session), SETTLE_LIMIT_S, poll_s=SETTLE_POLL_S)
    except AssertionError:
        result.problems.append(f"not cleaned up: {', '.join(unfinished(session))}")
    if not played.scenario.may_leave_disk:
        result.left, result.disk_gb = left_in_compute(place, session.vm_name)
    result.gpu_left = gpus(place, session.vm_name)
    result.ended_by, wrong = ledger_problems(session, played.due)
    result.problems += [*disk_problems(played.scenario, result), *wrong, *touched(place, before)]
    result.seconds = round(time.monotonic() - played.began, 1)
    session.tell(f"result: {result.shown()}")
    said = "; ".join(result.problems)[:500] or f"{result.over_s:.1f} s over"
    place.say(f"{session.log.stem}: {said}")
    _forget(session)


def _forget(session: Session) -> None:
    """Take the empty stack away: the reaper reads every state there is."""
    place = session.place
    if not unfinished(session):
        place.cloud.storage.delete(place.bucket, names.stack_state(session.stack))
