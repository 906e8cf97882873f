"""The first layer: the watchdog on the VM."""

import signal
from collections.abc import Sequence

from tests.faults.scenario import DEADLINE, REAPER, WATCHDOG, scenario
from tests.faults.session import WATCHDOG as PROCESS
from tests.faults.session import Due, Session
from tests.faults.timing import SHORT_LIFE


@scenario("Nobody uses the session: nothing is wrong.", lambda t: t.watchdog_s)
def idle(session: Session) -> Sequence[Due]:
    session.serve()
    return session.idle_due("watchdog")


@scenario(
    "The watchdog is killed; systemd starts it again, and it remembers.", lambda t: t.watchdog_s
)
def watchdog_killed(session: Session) -> Sequence[Due]:
    session.serve()
    session.send(PROCESS, signal.SIGKILL)
    return session.idle_due("watchdog")


@scenario(
    "The watchdog hangs and says nothing more: the reaper misses its heartbeat.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
)
def watchdog_hung(session: Session) -> Sequence[Due]:
    session.serve()
    session.send(PROCESS, signal.SIGSTOP)
    return session.idle_due("reaper")


@scenario(
    "The watchdog is stopped for good, and no deadline is near.",
    lambda t: t.silent_s,
    off=(WATCHDOG, DEADLINE),
)
def watchdog_stopped(session: Session) -> Sequence[Due]:
    return session.serve_unwatched()


@scenario(
    "Nobody wakes the reaper: the watchdog ends the VM, and its disk stays.",
    lambda t: t.watchdog_s,
    off=(REAPER,),
    condition="scheduler-paused",
)
def reaper_silent(session: Session) -> Sequence[Due]:
    session.serve()
    return session.idle_due("watchdog")


@scenario(
    "The watchdog is stopped and nobody wakes the reaper: Google's own deadline is left.",
    lambda t: t.deadline_s,
    off=(WATCHDOG, REAPER),
    config=SHORT_LIFE,
    condition="scheduler-paused",
)
def only_the_deadline_left(session: Session) -> Sequence[Due]:
    session.serve()
    session.stop_watchdog()
    return session.idle_due("google")
