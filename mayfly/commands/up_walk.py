"""One walk up the ladder for `mayfly up`, with its board, and what Ctrl-C leaves of it."""

import time
from collections.abc import Sequence
from dataclasses import replace

from mayfly.commands.up_board import Board
from mayfly.ladder.climb import climb
from mayfly.ladder.rungs import Rung
from mayfly.ladder.walk import Attempt, Ladder, Step, Try
from mayfly.launch import Launch


class Walk:
    """A clock for the walk, and the rung that is being asked: what Ctrl-C must look after."""

    def __init__(self, board: Board) -> None:
        self._board, self._began = board, time.monotonic()
        self.rung: Rung | None = None

    def now_s(self) -> float:
        return time.monotonic() - self._began

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def tell(self, attempts: Sequence[Attempt], step: Step) -> None:
        if isinstance(step, Try):
            self.rung = step.rung
        self._board.step(attempts, step)


def walk(launch: Launch, ladder: Ladder) -> list[Attempt]:
    """Walk until the session serves; [] where its VM lived already and was taken up.

    FailedError after Ctrl-C, saying what is there.
    """
    with Board() as board:
        clock, hands = Walk(board), replace(launch, tell=board.line)
        try:
            if hands.joined():
                return []
            return climb(ladder, hands, clock, clock.tell)
        except KeyboardInterrupt:
            raise hands.interrupted(clock.rung) from None
