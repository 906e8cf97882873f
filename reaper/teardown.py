"""Destroy what is left of the stacks whose VM is gone, one run of the reaper at a time."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from mayfly import idle, names
from mayfly.cloud import Cloud
from mayfly.errors import FailedError
from reaper import engine, locks
from reaper.clock import Clock
from reaper.decide import leave_stack
from reaper.destroy import Limit, Order, Outcome, destroy
from reaper.lease import Lease, Run, acquire
from reaper.parallel import each
from reaper.settings import Settings
from reaper.stack import Stack, StateError, name_of, parse

# Each is an engine and two plugins in the function's 4 GiB.
AT_ONCE = 2
LEASE_SPARE_S = 5.0


@dataclass
class Done:
    """What became of the stacks: names, and (name, why) for those that wait."""

    destroyed: list[str] = field(default_factory=list)
    postponed: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Yard:
    """What every destroy needs."""

    cloud: Cloud
    settings: Settings
    clock: Clock
    engine_root: Path


@dataclass(frozen=True)
class Work:
    """What the destroys of one run share. reasons: by session."""

    lease: Lease
    tools: Path
    reasons: Mapping[str, str]
    done: Done


def read_stacks(yard: Yard, busy: set[str]) -> tuple[list[Stack], list[str]]:
    """Stacks that the reaper may destroy, and a line for each state that cannot be read.

    busy: sessions whose VM lives; their states are not read. CloudError when none can be listed.
    """
    cloud, settings, clock = yard.cloud, yard.settings, yard.clock
    prefix = names.stack_state("").removesuffix(".json")
    found = {
        name_of(str(i["name"])): str(i["name"])
        for i in cloud.storage.list(settings.state_bucket, prefix)
    }
    wanted = {
        stack: path
        for stack, path in found.items()
        if stack is not None and stack != settings.foundation_stack and stack not in busy
    }

    def read(stack: str) -> Stack | None:
        blob = cloud.storage.get(settings.state_bucket, wanted[stack])
        if blob is None:
            return None
        try:
            return replace(parse(stack, blob.data), generation=blob.generation)
        except StateError as error:
            raise FailedError(str(error)) from error

    stacks, errors = [], []
    for _, stack in each(sorted(wanted), read, clock):
        if isinstance(stack, FailedError):
            errors.append(str(stack))
        elif stack is not None and not leave_stack(stack, settings.foundation_stack):
            stacks.append(stack)
    return stacks, errors


def tear_down(yard: Yard, stacks: Iterable[Stack], reasons: Mapping[str, str], done: Done) -> None:
    """Destroy each stack whose VM is gone; `done` is filled as it goes.

    reasons: why its VM ended, by session; it goes into the stack's history.
    """
    gone = [stack for stack in stacks if _vm_is_gone(yard.cloud, stack, done)]
    gone = _unwatched(yard, gone, done)
    if not gone:
        return
    bucket = yard.settings.state_bucket
    # As long as this run can last, and no longer: the next one must not wait for a killed one.
    lease_s = max(yard.clock.left_s(), 0) + LEASE_SPARE_S
    lease = acquire(yard.cloud, bucket, yard.clock.now(), lease_s)
    if lease is None:
        done.postponed += [(stack.name, "another run of the reaper is at work") for stack in gone]
        return
    try:
        free = [stack for stack in gone if _is_free(yard, stack, lease, done)]
        if free:
            work = Work(lease, engine.unpack(yard.cloud, bucket, yard.engine_root), reasons, done)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda stack: _take(yard, stack, work), free))
    finally:
        lease.release()


def _vm_is_gone(cloud: Cloud, stack: Stack, done: Done) -> bool:
    """Ask Compute by name: the state may be older than the VM, and a name may have a new one."""
    try:
        for machine in stack.machines:
            if not machine.name or not machine.zone:
                done.postponed.append((stack.name, "its state does not say where its VM is"))
                return False
            found = cloud.compute.instance(machine.zone, machine.name)
            if found is None:
                continue
            if machine.id and str(found["id"]) != machine.id:
                why = f"another VM has the name {machine.name} by now"
                done.postponed.append((stack.name, why))
            elif machine.id:
                done.postponed.append((stack.name, f"VM {machine.name} is still there"))
            return False
    except FailedError as error:
        done.errors.append(f"stack {stack.name}: {error}")
        return False
    return True


def _unwatched(yard: Yard, stacks: list[Stack], done: Done) -> list[Stack]:
    """Without those that `mayfly up --watch` is about to bring up again. A stack without VM costs
    nothing, so that where watches cannot be read it waits too."""
    cloud, bucket = yard.cloud, yard.settings.state_bucket
    if not stacks:
        return []
    try:
        there = {str(item["name"]) for item in cloud.storage.list(bucket, names.LEASE_PREFIX)}
    except FailedError as error:
        done.errors.append(f"watches: {error}")
        return []
    return [
        stack
        for stack in stacks
        if names.watch(stack.name) not in there or not _is_watched(yard, stack, done)
    ]


def _is_watched(yard: Yard, stack: Stack, done: Done) -> bool:
    try:
        blob = yard.cloud.storage.get(yard.settings.state_bucket, names.watch(stack.name))
    except FailedError as error:
        done.errors.append(f"stack {stack.name}: {error}")
        return True
    watch = idle.parse_lease(blob.data) if blob is not None else None
    if watch is None or not watch.is_fresh(yard.clock.now()):
        return False
    done.postponed.append((stack.name, "`mayfly up --watch` brings it up again"))
    return True


def _is_free(yard: Yard, stack: Stack, lease: Lease, done: Done) -> bool:
    """Remove what dead runs left locked; False while somebody is at work on the stack."""
    bucket, now = yard.settings.state_bucket, yard.clock.now()
    try:
        left = [run for run in lease.left if run.stack == stack.name]
        for lock in locks.read(yard.cloud, bucket, stack.name):
            stale = locks.is_stale(lock, left, now, yard.settings.stale_lock_s)
            if not stale or not locks.remove(yard.cloud, bucket, lock):
                done.postponed.append((stack.name, f"locked by {lock.holder}"))
                return False
        lease.forget(stack.name)
    except FailedError as error:
        done.errors.append(f"stack {stack.name}: {error}")
        return False
    return True


def _take(yard: Yard, stack: Stack, work: Work) -> None:
    """Destroy one stack; whatever goes wrong with it is its own."""
    limit_s = yard.clock.left_s() - yard.settings.grace_s
    if limit_s < yard.settings.least_destroy_s:
        work.done.postponed.append((stack.name, "no time left in this run"))
        return
    try:
        if not _is_as_read(yard, stack):
            work.done.postponed.append((stack.name, "somebody has changed it meanwhile"))
            return
        order = Order(
            engine=work.tools,
            bucket=yard.settings.state_bucket,
            stack=stack.name,
            message=f"reaper: {work.reasons.get(stack.name, 'its VM is gone')}",
            has_pending=stack.has_pending,
            has_history=_has_history(yard, stack.name),
        )
        limit = Limit(time.monotonic() + limit_s, yard.settings.grace_s)
        outcome = destroy(order, limit, work.lease.note)
        _unlock_after(yard, work.lease, outcome.run)
    except (FailedError, OSError) as error:
        work.done.errors.append(f"stack {stack.name}: {error}")
        return
    _book(stack.name, outcome, work.done)


def _is_as_read(yard: Yard, stack: Stack) -> bool:
    """False when its state was written since: a stack that waited for its turn may serve again."""
    found = yard.cloud.storage.list(yard.settings.state_bucket, names.stack_state(stack.name))
    return any(
        int(item["generation"]) == stack.generation
        for item in found
        if name_of(str(item["name"])) == stack.name
    )


def _has_history(yard: Yard, stack: str) -> bool:
    found = yard.cloud.storage.list(yard.settings.state_bucket, names.stack_history(stack))
    return next(found, None) is not None


def _unlock_after(yard: Yard, lease: Lease, run: Run) -> None:
    """A destroy that had to be killed leaves its lock; the process is over, so it goes."""
    bucket = yard.settings.state_bucket
    for lock in locks.read(yard.cloud, bucket, run.stack):
        if locks.is_of(lock, run):
            locks.remove(yard.cloud, bucket, lock)
    lease.forget(run.stack)


def _book(stack: str, outcome: Outcome, done: Done) -> None:
    if outcome.status == "done":
        done.destroyed.append(stack)
    elif outcome.status == "failed":
        done.errors.append(f"stack {stack}: destroy failed: {outcome.text}")
    else:
        why = {"locked": "locked by somebody else", "timeout": "it took too long for one run"}
        done.postponed.append((stack, why[outcome.status]))
