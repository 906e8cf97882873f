"""What goes wrong on the VM beside its watchdog."""

import signal
from collections.abc import Sequence

from tests.faults.patience import wait_until
from tests.faults.place import PULUMI_LIMIT_S
from tests.faults.scenario import DEADLINE, WATCHDOG, scenario
from tests.faults.session import VLLM, Due, Session
from tests.faults.session import WATCHDOG as PROCESS

# Longer than a start on a busy machine takes: vLLM is there before it is over.
SHORT_START = {"startMinutes": "2.5"}
HOUR_S = 3600
SKEWED = """import time
real = time.time
time.time = lambda: real() + {seconds}
"""


@scenario(
    "vLLM is killed; the watchdog starts it again, and the idle clock runs on.",
    lambda t: t.watchdog_s,
)
def vllm_crashes(session: Session) -> Sequence[Due]:
    session.serve()
    session.send(VLLM, signal.SIGKILL)
    return session.idle_due("watchdog")


@scenario(
    "vLLM is killed again as soon as it is back: the session has failed.", lambda t: t.failed_s
)
def vllm_crashes_twice(session: Session) -> Sequence[Due]:
    session.serve()
    first = session.pids(VLLM)
    session.send(VLLM, signal.SIGKILL)
    wait_until(lambda: set(session.pids(VLLM)) - set(first), session.limit_s)
    session.send(VLLM, signal.SIGKILL)
    return session.due_now("watchdog")


@scenario(
    "vLLM hangs while it serves: it answers nothing, and nothing is seen to be idle.",
    lambda t: t.silent_s,
)
def vllm_hangs(session: Session) -> Sequence[Due]:
    session.serve()
    session.send(VLLM, signal.SIGSTOP)
    return session.due_now("watchdog", "reaper")


@scenario(
    "vLLM never comes up: the start takes longer than it may.",
    lambda t: t.failed_s,
    config=SHORT_START,
)
def vllm_never_ready(session: Session) -> Sequence[Due]:
    up = session.begin_up()
    vm_id = session.see_vm()
    session.send(VLLM, signal.SIGSTOP)
    began = session.lives()[0].began
    session.tell(f"`up` ended with {up.wait(PULUMI_LIMIT_S)}")
    return [Due(vm_id, began + session.timing.limits.start_s, ("watchdog", "reaper"))]


@scenario(
    "The start-up itself is killed on the VM: nobody says that it failed.",
    lambda t: t.failed_s,
    config=SHORT_START,
)
def startup_dies(session: Session) -> Sequence[Due]:
    session.begin_up()
    vm_id = session.see_vm()
    session.see_phase("driver", "engine", "weights", "loading")
    session.send("startup[.]run", signal.SIGKILL)
    began = session.lives()[0].began
    return [Due(vm_id, began + session.timing.limits.start_s, ("watchdog", "reaper"))]


@scenario(
    "The watchdog is stopped before the endpoint serves.",
    lambda t: t.silent_s,
    off=(WATCHDOG, DEADLINE),
)
def watchdog_stopped_in_the_start(session: Session) -> Sequence[Due]:
    up = session.begin_up()
    session.see_phase("driver", "engine", "weights", "loading")
    session.stop_watchdog()
    due = session.due_now("reaper")
    session.tell(f"`up` ended with {up.wait(PULUMI_LIMIT_S)}")
    return due


@scenario(
    "The metadata server is gone: the VM can say nothing and read no lease.", lambda t: t.silent_s
)
def metadata_server_gone(session: Session) -> Sequence[Due]:
    vm_id = session.serve()
    due = session.idle_due("reaper", "watchdog", "unknown")
    session.place.local.world.machines.lose_metadata(vm_id)
    return due


def skew(session: Session, seconds: int) -> Sequence[Due]:
    """From here on the watchdog's wall clock is wrong."""
    vm_id = session.serve()
    due = session.idle_due("watchdog", "reaper")
    disk = session.place.local.world.machines.directory / vm_id / "disk"
    (disk / "opt/mayfly/sitecustomize.py").write_text(SKEWED.format(seconds=seconds))
    session.send(PROCESS, signal.SIGKILL)
    return due


@scenario("The VM's clock jumps an hour ahead.", lambda t: t.silent_s)
def clock_ahead(session: Session) -> Sequence[Due]:
    return skew(session, HOUR_S)


@scenario("The VM's clock jumps an hour back.", lambda t: t.silent_s)
def clock_behind(session: Session) -> Sequence[Due]:
    return skew(session, -HOUR_S)
