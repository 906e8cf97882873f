"""The stack's state: locks and objects that cannot be read."""

from collections.abc import Sequence

from mayfly import names
from tests.faults.patience import wait_until
from tests.faults.scenario import WATCHDOG, scenario
from tests.faults.session import Due, Session


@scenario(
    "Somebody holds the state's lock while the VM is due: the delete does not wait for it.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
)
def state_lock_held(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    lock = session.place.put_lock(session.stack)
    wait_until(session.halted, session.limit_s)
    assert session.unreaped(), "the stack was destroyed under a live lock"
    session.place.cloud.storage.delete(session.place.bucket, lock)
    return due


@scenario(
    "A lock was left behind: it goes when it is older than the longest `up`.",
    lambda t: t.watchdog_s,
)
def state_lock_stale(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    session.place.put_lock(session.stack)
    return due


@scenario(
    "The stack's state cannot be read while the VM is due.", lambda t: t.silent_s, off=(WATCHDOG,)
)
def state_unreadable(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    place, name = session.place, names.stack_state(session.stack)
    blob = place.cloud.storage.get(place.bucket, name)
    assert blob is not None
    place.cloud.storage.put(place.bucket, name, b"garbage")
    wait_until(session.halted, session.limit_s)
    place.cloud.storage.put(place.bucket, name, blob.data)
    return due
