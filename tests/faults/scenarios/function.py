"""The second layer: the reaper's function, its scheduler, its foundation. Each by itself."""

import os
import signal
from collections.abc import Sequence

from mayfly.demo.workshop import FOUNDATION
from tests.faults.measure import left_in_compute
from tests.faults.patience import wait_until
from tests.faults.scenario import ALONE, DEADLINE, REAPER, WATCHDOG, scenario
from tests.faults.session import Due, Session, descendants

INVOKE = "run.routes.invoke"


@scenario(
    "The function fails every other call, and the watchdog is stopped.",
    lambda t: t.silent_s + t.every_s,
    off=(WATCHDOG,),
    condition=ALONE,
)
def function_fails_every_other_call(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    with session.place.fault("http-5xx", INVOKE, every=2):
        wait_until(session.halted, session.limit_s)
    return due


@scenario(
    "The function fails every call: the watchdog is left, and the disk stays.",
    lambda t: t.watchdog_s,
    off=(REAPER, DEADLINE),
    condition=ALONE,
)
def function_broken(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    with session.place.fault("http-5xx", INVOKE):
        wait_until(session.halted, session.limit_s)
        session.left = left_in_compute(session.place, session.vm_name)
    return due


@scenario(
    "The function's instance is killed while it destroys a stack.",
    lambda t: t.watchdog_s,
    condition=ALONE,
)
def function_killed_in_mid_destroy(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    wait_until(session.halted, session.limit_s)
    wait_until(lambda: session.place.lock(session.stack), session.limit_s)
    function = session.place.function_pid()
    for pid in [*descendants(function), function]:
        os.kill(pid, signal.SIGKILL)
    session.tell(f"killed the function, process {function}, and all below it")
    return due


@scenario(
    "Nobody wakes the reaper for an hour, and the watchdog is stopped.",
    lambda t: t.hour_s + t.reaper_s,
    off=(WATCHDOG,),
    condition=ALONE,
)
def scheduler_silent_for_an_hour(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    session.place.switch_scheduler("pause")
    try:
        session.sleep(session.timing.hour_s)
    finally:
        session.place.switch_scheduler("resume")
    return due


@scenario(
    "Two reapers are woken at the same moments, and the watchdog is stopped.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
    condition=ALONE,
)
def two_reapers(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    with session.place.second_job():
        wait_until(session.halted, session.limit_s)
        wait_until(lambda: not session.unreaped(), session.limit_s)
    return due


@scenario(
    "The foundation is updated under a live session without a watchdog.",
    lambda t: t.silent_s + t.every_s,
    off=(WATCHDOG,),
    condition=ALONE,
)
def foundation_updated(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    session.place.pulumi(FOUNDATION, "up", "--yes", "--skip-preview")
    session.place.configure_function()
    return due


@scenario(
    "Compute answers 503 to everybody while the session is due.",
    lambda t: t.watchdog_s,
    condition=ALONE,
)
def compute_down(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    with session.place.fault("http-5xx", "compute.*"):
        wait_until(session.halted, session.limit_s)
    return due


@scenario(
    "Compute answers 503 to every other call, and the watchdog is stopped.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
    condition=ALONE,
)
def compute_flaky(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    with session.place.fault("http-5xx", "compute.*", every=2):
        wait_until(session.halted, session.limit_s)
    return due


@scenario(
    "The state bucket cannot be read by anybody: no lease, no state, no ledger.",
    lambda t: t.limits.heartbeat_s + t.watchdog_s,
    condition=ALONE,
)
def state_bucket_unreadable(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    with session.place.fault("http-5xx", "storage.*", where={"bucket": session.place.bucket}):
        wait_until(session.halted, session.limit_s)
    return due
