"""Google: preemptions, deadlines, a Compute API that fails."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from local.rest.compute.life import Life
from mayfly import idle, names
from tests.faults.patience import wait_until
from tests.faults.place import PULUMI_LIMIT_S
from tests.faults.scenario import REAPER, WATCHDOG, scenario
from tests.faults.session import SEE_LIMIT_S, Due, Session
from tests.faults.timing import SHORT_LIFE

DELETE = "compute.instances.delete"


def order(session: Session, fault: str, **words: Any) -> None:
    """A fault for the delete of the session's VM."""
    where = {"instance": session.vm_id}
    faults = session.place.local.world.faults
    faults.order({"fault": fault, "method": DELETE, "where": where, **words})


def preempt(session: Session) -> Sequence[Due]:
    """Google takes back what runs, and a VM says that it boots a moment before it does."""
    life, zone = session.place.local.world.of(Life), session.zone
    wait_until(lambda: (found := session.instance()) and found["status"] == "RUNNING", SEE_LIMIT_S)
    due = session.due_now("google")
    assert life.preempt(zone, session.vm_name) is not None
    return due


@scenario("Google takes the VM back while it boots.", lambda t: t.google_s)
def preempted_at_boot(session: Session) -> Sequence[Due]:
    up = session.begin_up()
    session.see_phase("booting", "driver", "engine", "weights")
    due = preempt(session)
    session.tell(f"`up` ended with {up.wait(PULUMI_LIMIT_S)}")
    return due


@scenario("Google takes the VM back while it serves.", lambda t: t.google_s)
def preempted_in_service(session: Session) -> Sequence[Due]:
    session.serve()
    return preempt(session)


@scenario(
    "Google takes the VM back; its watchdog is stopped, and the laptop that watched it is dead.",
    lambda t: t.google_s,
    off=(WATCHDOG,),
    config={"heartbeatMinutes": "5"},  # or the reaper might be there before Google
)
def preempted_with_no_watch_left(session: Session) -> Sequence[Due]:
    session.serve_unwatched()
    session.die(session.begin_watch())
    return preempt(session)


@scenario(
    "Compute answers 503 to the delete, more often than one tick asks.",
    lambda t: t.silent_s + t.every_s,
    off=(WATCHDOG,),
)
def delete_answers_503(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    order(session, "http-5xx", times=5)
    return due


@scenario(
    "Compute takes the delete and drops the connection before it answers.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
)
def delete_is_dropped(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    order(session, "dropped-after")
    return due


@scenario("Compute takes its time over the delete.", lambda t: t.silent_s, off=(WATCHDOG,))
def delete_is_slow(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    order(session, "slow-operation", **{"with": {"seconds": session.timing.halt_s / 2}})
    return due


@scenario(
    "A lease holds the VM for ten hours: its deadline ends it all the same.",
    lambda t: t.google_s,
    config=SHORT_LIFE,
)
def lease_past_the_deadline(session: Session) -> Sequence[Due]:
    session.serve()
    until = idle.rfc3339(time.time() + 36000)
    body = f'{{"until": "{until}", "by": "ann"}}'.encode()
    session.place.cloud.storage.put(session.place.bucket, names.lease(session.stack), body)
    return session.deadline_due("google", "reaper", "watchdog")


@scenario(
    "A process on the VM claims activity for ever, and the watchdog is stopped.",
    lambda t: t.deadline_s,
    off=(WATCHDOG, REAPER),
    config=SHORT_LIFE,
)
def claims_are_lies(session: Session) -> Sequence[Due]:
    (due,) = session.serve_unwatched()
    threading.Thread(target=lie, args=(session, due.vm_id), daemon=True).start()
    return [Due(due.vm_id, due.at, ("google", "reaper"))]


def lie(session: Session, vm_id: str) -> None:
    """Until the VM is gone."""
    life = session.place.local.world.of(Life)
    while not session.halted():
        for key in ("heartbeat", "active_at"):
            life.guest_wrote(vm_id, f"{names.GUEST_PATH}{key}", str(idle.rfc3339(time.time())))
        time.sleep(1)
