"""Which state locks are live, and which a dead run left: those are removed, one by one."""

from collections.abc import Iterable

from mayfly.locks import Lock, is_old, read, remove
from reaper.lease import Run

__all__ = ["Lock", "is_of", "is_stale", "read", "remove"]

# The engine takes its lock in the first seconds of a destroy.
LOCKED_WITHIN_S = 120


def is_stale(lock: Lock, runs: Iterable[Run], now: float, stale_s: float) -> bool:
    """True for a lock older than the longest `up`, or left by a run of ours that is over."""
    return is_old(lock, now, stale_s) or any(
        is_of(lock, run)
        and run.until < now
        and -LOCKED_WITHIN_S < lock.made_at - run.since < LOCKED_WITHIN_S
        for run in runs
    )


def is_of(lock: Lock, run: Run) -> bool:
    """True for the lock that this process took."""
    return (lock.pid, lock.host) == (run.pid, run.host)
