"""`mayfly up --watch`: a session that Google takes the VM of is brought up again elsewhere."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mayfly import vms
from mayfly.cloud import CloudError
from mayfly.commands.up_rank import ranking
from mayfly.commands.up_walk import check_wanted, lost, walk
from mayfly.errors import FailedError, RefusedError
from mayfly.ladder.lives import Again, Grant, Life, Over, Sight, Stay, after, elsewhere
from mayfly.ladder.rungs import Place, Question
from mayfly.ladder.walk import Attempt, Ladder
from mayfly.launch import Launch, StoppedError
from mayfly.talk import tell
from mayfly.watch import Watch

LOOK_EVERY_S = 5.0
TRIES, FIRST_PAUSE_S = 4, 30.0


@dataclass(frozen=True, kw_only=True)
class Vigil:
    """A session that serves, and who looks after it.

    question: how it was asked for. landed: tells the user where it is.
    """

    launch: Launch
    question: Question
    watch: Watch
    landed: Callable[[Sequence[Attempt]], None]


def keep_up(vigil: Vigil, attempts: Sequence[Attempt]) -> None:
    """Look after the session until it is over, or until Ctrl-C, which leaves it as it is.

    attempts: how it came up; none where it was there already. RefusedError where it could not be
    brought up again within what it was given, FailedError where that failed, or where somebody has
    taken the watch away.
    """
    launch = vigil.launch
    vm = living(launch)
    if not attempts:
        launch = replace(launch, grant=as_told(vm, vigil.question))
    try:
        tell(f"Watching {launch.session}; Ctrl-C ends the watch, not the session.")
        while True:
            egress_usd = attempts[-1].rung.egress_usd if attempts else 0.0
            launch.lives.append(life(vm, egress_usd))
            step = until_it_ends(launch, vm, vigil.watch)
            if isinstance(step, Over):
                return tell_end(launch, step)
            attempts = persistently(vigil, launch, step)
            vm = living(launch)
            vigil.landed(attempts)
    except KeyboardInterrupt:
        tell(f"The watch has ended. {launch.left()}")


def living(launch: Launch) -> vms.Vm:
    """The session's VM. FailedError where it ended in the moment since it served."""
    vm = launch.current()
    if vm is None:
        raise FailedError(
            f"{launch.vm_name} was gone as soon as it served.",
            "No VM is there; nothing is billed.",
            f"Try: mayfly up --watch --session {launch.session}",
        )
    return vm


def as_told(vm: vms.Vm, question: Question) -> Grant:
    """What a session that was there already was given: its VM knows."""
    limits = vm.limits()
    hours = limits.max_life_s / 3600 if limits else question.hours
    limited = question.budget_usd is not None and vm.hourly_usd is not None
    return Grant(hours=hours, budget_usd=hours * (vm.hourly_usd or 0.0) if limited else None)


def life(vm: vms.Vm, egress_usd: float) -> Life:
    machine = str(vm.settings.get("machine", ""))
    return Life(
        place=Place(machine=machine, zone=vm.zone, provisioning=vm.provisioning),
        began_at=vm.created_at,
        usd_per_h=vm.hourly_usd or 0.0,
        egress_usd=egress_usd,
    )


def until_it_ends(launch: Launch, vm: vms.Vm, watch: Watch) -> Again | Over:
    """Look until the VM has ended, and say what that means.

    An end that Google did not cause is believed when it is seen twice: a preempted guest halts too,
    and the list of operations lags. StoppedError where somebody has taken the watch away, also when
    the VM is seen to end first: `mayfly down` does both.
    """
    before: Sight = "lives"
    while True:
        seen = launch.sight(vm)
        sure: Sight = "unknown" if seen == "ended" != before else seen
        before = seen
        step = after(sure, launch.grant, launch.lives, time.time())
        if watch.lost or not (isinstance(step, Stay) or watch.renewed()):
            raise lost(launch)
        if not isinstance(step, Stay):
            launch.lives[-1] = replace(launch.lives[-1], ended_at=time.time())
            return step
        time.sleep(LOOK_EVERY_S)


def tell_end(launch: Launch, step: Over) -> None:
    """RefusedError where somebody wanted more of it."""
    if step.refused:
        raise RefusedError(
            f"{launch.session} is over: {step.why}.",
            "No VM is there; nothing is billed.",
            f"Try: mayfly cost; then mayfly up --session {launch.session}",
        )
    tell(f"{launch.session} is over: {step.why}. What it cost: mayfly cost")


def persistently(vigil: Vigil, launch: Launch, step: Again) -> list[Attempt]:
    """`again`, over troubles that pass: a line that is down for minutes, a lock that is held."""
    pause_s = FIRST_PAUSE_S
    for left in reversed(range(TRIES)):
        try:
            return again(vigil, launch, step)
        except StoppedError:
            raise
        except FailedError as error:
            if not left or costs(launch):
                raise
            tell(f"{error}\nOnce more in {pause_s:.0f} s.")
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("it is tried at least once")


def costs(launch: Launch) -> bool:
    """Whether a VM is there, which a person must look at. False while Google does not answer: the
    next try looks before it makes one."""
    try:
        return bool(launch.all())
    except CloudError:
        return False


def again(vigil: Vigil, launch: Launch, step: Again) -> list[Attempt]:
    """Bring the session up in another place, within what is left of its time and money.

    What the stack holds is taken away first: not any more where another has brought it up since.
    """
    check_wanted(launch, vigil.watch)
    money = "" if step.budget_usd is None else f" and {step.budget_usd:.2f} USD"
    tell(
        f"Google took {launch.vm_name}; bringing it up again within the {step.hours:.1f} h{money} "
        "that are left."
    )
    launch.end()
    question = replace(vigil.question, hours=step.hours, budget_usd=step.budget_usd)
    ranked = ranking(question, launch.cloud, tell)
    if ranked.refusal:
        raise ranked.refusal
    found = elsewhere(ranked.found, launch.lives[-1].place)
    ladder = Ladder(rungs=found, retry_for_s=step.hours * 3600)
    return walk(launch, ladder, vigil.watch)
