"""Many small calls side by side, where one that fails costs only itself."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mayfly.errors import FailedError

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16


def each(items: Iterable[T], work: Callable[[T], R]) -> list[tuple[T, R | FailedError]]:
    """Run `work` on every item, 16 at once, in order; a failure is returned, not raised."""

    def guarded(item: T) -> tuple[T, R | FailedError]:
        try:
            return item, work(item)
        except FailedError as error:
            return item, error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(guarded, items))
