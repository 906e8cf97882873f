"""What can be wrong with the place itself, for everybody in it. One at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.faults.patience import wait_until
from tests.faults.place import Place
from tests.faults.scenario import ALONE

BUSY_LIMIT_S = 120.0
AT_ONCE = 6
CONDITIONS: dict[str, Callable[[Place], AbstractContextManager[None]]] = {}


def condition(
    make: Callable[[Place], Iterator[None]],
) -> Callable[[Place], AbstractContextManager[None]]:
    """Add a generator to the list under its own name, with hyphens."""
    made = contextmanager(make)
    CONDITIONS[make.__name__.replace("_", "-")] = made
    return made


@condition
def scheduler_paused(place: Place) -> Iterator[None]:
    """The reaper is off: nobody wakes it."""
    place.switch_scheduler("pause")
    wait_until(lambda: not place.scheduler_is_busy(), BUSY_LIMIT_S)
    try:
        yield
    finally:
        place.switch_scheduler("resume")


@condition
def alone(place: Place) -> Iterator[None]:
    """Each scenario by itself: it brings about what would meet everybody."""
    yield


@condition
def calm(place: Place) -> Iterator[None]:
    """Nothing is wrong with the place."""
    yield


def at_once(name: str) -> int:
    """How many scenarios a condition lets be played at the same time."""
    return 1 if name == ALONE else AT_ONCE
