"""Many small calls side by side, where one that fails costs only itself."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mayfly.errors import FailedError
from reaper.clock import Clock

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16


def each(
    items: Iterable[T], work: Callable[[T], R], clock: Clock | None = None
) -> list[tuple[T, R | FailedError]]:
    """Run `work` on every item, 16 at once, in order; a failure is returned, not raised.

    clock: what has not begun when the run is over fails, so that a slow API cannot prolong it.
    """

    def guarded(item: T) -> tuple[T, R | FailedError]:
        if clock is not None and clock.left_s() <= 0:
            return item, FailedError("no time left in this run")
        try:
            return item, work(item)
        except FailedError as error:
            return item, error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(guarded, items))
