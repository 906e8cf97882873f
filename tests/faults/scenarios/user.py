"""The user's machine and the user's hands."""

from collections.abc import Sequence

from mayfly import names
from tests.faults.patience import wait_until
from tests.faults.place import PULUMI_LIMIT_S
from tests.faults.scenario import WATCHDOG, scenario
from tests.faults.session import SEE_LIMIT_S, Due, Session

SLOW_S = 15


@scenario("The laptop dies before the create was sent: there is never a VM.", lambda t: 0.0)
def laptop_dies_before_create(session: Session) -> Sequence[Due]:
    up = session.begin_up()
    wait_until(lambda: session.place.lock(session.stack), SEE_LIMIT_S)
    session.die(up)
    return []


@scenario(
    "The laptop dies while Compute creates: the VM is outside the state, the state locked.",
    lambda t: t.watchdog_s,
)
def laptop_dies_during_create(session: Session) -> Sequence[Due]:
    where = {"name": names.vm(session.stack)}
    with session.place.fault(
        "slow-operation",
        "compute.instances.insert",
        where=where,
        **{"with": {"seconds": SLOW_S}},
    ):
        up = session.begin_up()
        session.see_vm()
        session.die(up)
    session.see_serving()
    return session.idle_due("watchdog")


@scenario(
    "The laptop dies while the VM starts: nobody waits for the endpoint any more.",
    lambda t: t.watchdog_s,
)
def laptop_dies_after_create(session: Session) -> Sequence[Due]:
    up = session.begin_up()
    session.see_phase("driver", "engine", "weights", "loading")
    session.die(up)
    session.see_serving()
    return session.idle_due("watchdog")


@scenario("Somebody deletes the VM in the console.", lambda t: t.google_s)
def deleted_in_the_console(session: Session) -> Sequence[Due]:
    vm_id = session.serve()
    due = session.due_now("user")
    session.place.cloud.compute.delete_instance(session.zone, vm_id)
    return due


@scenario(
    "Somebody stops the VM in the console: Google's deadline is off, its disk would stay.",
    lambda t: t.google_s,
)
def stopped_in_the_console(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.due_now("user")
    place = session.place
    path = f"projects/{place.cloud.project}/zones/{session.zone}/instances/{session.vm_name}"
    place.cloud.ask("POST", "compute", f"{path}/stop", {})
    return due


@scenario(
    "A second user runs `pulumi up` on the same stack while the first one's is at work.",
    lambda t: t.watchdog_s,
)
def two_users_on_one_stack(session: Session) -> Sequence[Due]:
    first = session.begin_up()
    wait_until(lambda: session.place.lock(session.stack), SEE_LIMIT_S)
    second = session.begin_up()
    assert second.wait(PULUMI_LIMIT_S) != 0, "the second `up` was let in"
    session.see_serving()
    session.returned(first)
    return session.idle_due("watchdog")


@scenario(
    "The user runs `pulumi up` again while the reaper takes the stack away.",
    lambda t: 2 * t.watchdog_s,
)
def up_during_a_reap(session: Session) -> Sequence[Due]:
    session.serve()
    wait_until(session.halted, session.limit_s)
    wait_until(lambda: session.place.lock(session.stack) or not session.unreaped(), session.limit_s)
    up = session.begin_up()
    wait_until(lambda: up.poll() is not None or session.next_serving(), PULUMI_LIMIT_S)
    session.tell(f"the second `up` ended with {up.wait(PULUMI_LIMIT_S)}")
    session.next_serving()
    return session.idle_due("watchdog")


@scenario("The user runs `pulumi destroy` while the reaper does the same.", lambda t: t.watchdog_s)
def destroy_during_a_reap(session: Session) -> Sequence[Due]:
    session.serve()
    due = session.idle_due("watchdog")
    wait_until(session.halted, session.limit_s)
    wait_until(lambda: session.place.lock(session.stack) or not session.unreaped(), session.limit_s)
    words = ("destroy", "--yes", "--skip-preview", "--refresh")
    code = session.place.start_pulumi(session.stack, *words).wait(PULUMI_LIMIT_S)
    session.tell(f"the user's destroy ended with {code}")
    return due


@scenario(
    "The stack is renamed under a live session without a watchdog: names no longer match.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
)
def session_renamed(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    session.rename(f"{session.stack}-x")
    return due


@scenario(
    "The stack's state is deleted under a live session without a watchdog.",
    lambda t: t.silent_s,
    off=(WATCHDOG,),
)
def stack_is_gone(session: Session) -> Sequence[Due]:
    due = session.serve_unwatched()
    session.place.cloud.storage.delete(session.place.bucket, names.stack_state(session.stack))
    return due
