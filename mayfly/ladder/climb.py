"""Walk the ladder with somebody's hands, until a VM is there or the walk says why not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from mayfly.capacity import Verdict
from mayfly.errors import FailedError, RefusedError
from mayfly.ladder.rungs import Rung
from mayfly.ladder.walk import Attempt, Done, Found, Ladder, Look, Step, Stop, TakeUp, next_step


class Hands(Protocol):
    """What touches the cloud."""

    def bring_up(self, rung: Rung) -> Verdict | None:
        """One `up` there; None when the VM is there and serves."""

    def look(self, rung: Rung) -> Found:
        """Whether a VM of this name is there."""

    def take_up(self, rung: Rung) -> Found:
        """Take this launch's VM into the state ("adopted"), or away for sure ("cleared").

        Raises FailedError.
        """


class Clock(Protocol):
    """Seconds since the start of the walk, and a wait that Ctrl-C ends."""

    def now_s(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


Tell = Callable[[Sequence[Attempt], Step], None]


def climb(ladder: Ladder, hands: Hands, clock: Clock, tell: Tell) -> list[Attempt]:
    """Every attempt, the last of which has a VM. RefusedError or FailedError with the remedy.

    tell: called before each step with what was tried so far.
    """
    attempts: list[Attempt] = []
    while True:
        step = next_step(ladder, attempts)
        tell(attempts, step)
        if isinstance(step, Done):
            return attempts
        if isinstance(step, Stop):
            kind = RefusedError if step.refused else FailedError
            raise kind(step.what, step.meaning, step.remedy)
        if isinstance(step, Look):
            attempts[-1] = replace(attempts[-1], found=hands.look(step.rung))
        elif isinstance(step, TakeUp):
            attempts[-1] = replace(attempts[-1], found=hands.take_up(step.rung))
        else:
            clock.sleep(step.wait_s)
            verdict = hands.bring_up(step.rung)
            attempts.append(
                Attempt(rung=step.rung, round=step.round, verdict=verdict, ended_s=clock.now_s())
            )
