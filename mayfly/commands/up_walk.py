"""One walk up the ladder for `mayfly up`, with its board, and what Ctrl-C leaves of it."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mayfly.commands.up_board import Board
from mayfly.ladder.climb import climb
from mayfly.ladder.rungs import Rung
from mayfly.ladder.walk import Attempt, Ladder, Step, Try
from mayfly.launch import Launch, StoppedError
from mayfly.watch import Watch


class Walk:
    """A clock for the walk, and the rung that is being asked: what Ctrl-C must look after.

    check: raises where nobody wants the session any more; asked before each attempt.
    """

    def __init__(self, board: Board, check: Callable[[], None]) -> None:
        self._board, self._check, self._began = board, check, time.monotonic()
        self.rung: Rung | None = None

    def now_s(self) -> float:
        return time.monotonic() - self._began

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        self._check()

    def tell(self, attempts: Sequence[Attempt], step: Step) -> None:
        if isinstance(step, Try):
            self.rung = step.rung
        self._board.step(attempts, step)


def end_as_ctrl_c() -> None:
    """From now on a closed terminal, or a kill, ends this process as Ctrl-C does: it looks what is
    there, and says so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def walk(launch: Launch, ladder: Ladder, watch: Watch | None = None) -> list[Attempt]:
    """Walk until the session serves; [] where its VM lived already and was taken up.

    StoppedError after Ctrl-C, and where somebody took the watch away; it says what is there.
    """
    with Board() as board:
        clock = Walk(board, lambda: check_wanted(launch, watch))
        hands = replace(launch, tell=board.line)
        try:
            if hands.joined():
                return []
            return climb(ladder, hands, clock, clock.tell)
        except KeyboardInterrupt:
            raise hands.interrupted(clock.rung) from None


def check_wanted(launch: Launch, watch: Watch | None) -> None:
    """StoppedError where somebody has taken the watch away: a VM would be there for nobody."""
    if watch is not None and not watch.renewed():
        raise lost(launch)


def lost(launch: Launch) -> StoppedError:
    return StoppedError(
        f"Somebody has ended {launch.session} with `mayfly down`, or watches it now.",
        launch.left(),
        "Try: mayfly status",
    )
