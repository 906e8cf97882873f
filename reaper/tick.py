"""One run of the reaper: observe, decide, act. First the VMs, then whatever they left."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mayfly.cloud import Cloud, CloudError
from mayfly.errors import FailedError
from mayfly.idle import rfc3339
from reaper import books, observe
from reaper.act import delete
from reaper.books import Books, Look
from reaper.clock import Clock
from reaper.decide import judge
from reaper.life import Known
from reaper.parallel import each
from reaper.settings import Settings
from reaper.stack import Stack
from reaper.teardown import Done, Yard, read_stacks, tear_down
from reaper.vm import Vm

# A GPU VM takes up to two minutes to go. The looks for it grow rarer, and rarer still where many
# go at once: Compute counts every read against the project's quota.
FIRST_POLL_S, LAST_POLL_S, POLL_GROWTH = 1.0, 10.0, 1.5
POLLS_PER_S = 5
# The last pause ends just past the last moment, so that one more look closes the waiting.
MARGIN_S = 0.1
TOO_SLOW = "Compute answers too slowly for every VM to be asked"
ENGINE_ROOT = Path(tempfile.gettempdir(), "mayfly-engine")


@dataclass
class Report:
    """What a run found and did. `postponed` entries are {"stack", "reason"}; errors are lines.

    calls: requests sent, repeats included; pages: those that read a page of a list.
    """

    vms: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    postponed: list[dict[str, str]] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    calls: int = 0
    pages: int = 0


def tick(cloud: Cloud, settings: Settings, engine_root: Path = ENGINE_ROOT) -> Report:
    """Do one run. CloudError only when the VMs cannot be listed: nothing was done then.

    Deletes go out before anything else, and wait for nothing: not for a lock, a state, a lease.
    """
    clock = Clock(settings.tick_s)
    yard = Yard(cloud, settings, clock, engine_root)
    seen = observe.listed(cloud, settings.state_bucket)
    report = Report(errors=seen.errors)
    looks = _end(yard, seen.vms, report)
    report.vms = [_row(look) for look in looks]
    kept = Books(cloud, settings.state_bucket, clock)
    report.errors += books.save(kept, looks)
    _clean_up(yard, kept, looks, report)
    report.calls, report.pages = cloud.calls, cloud.pages
    return report


def _end(yard: Yard, vms: list[Vm], report: Report) -> list[Look]:
    """Look closer, judge, send the delete: each VM by itself, so that none waits for another."""
    cloud, clock = yard.cloud, yard.clock
    stop_asking_at_left_s = clock.left_s() - yard.settings.look_s

    def end(vm: Vm) -> Look:
        if clock.left_s() < stop_asking_at_left_s:
            whole = replace(vm, attributes_error=TOO_SLOW)
        else:
            whole = observe.closer(cloud, vm)
        verdict = judge(whole, clock.now())
        if not verdict.end:
            return Look(whole, verdict, None)
        try:
            return Look(whole, verdict, delete(cloud, vm))
        except CloudError as error:
            return Look(whole, verdict, None, error=error.message)

    looks = []
    for vm, look in each(vms, end):
        if isinstance(look, FailedError):
            report.errors.append(f"VM {vm.name}: {look}")
            continue
        looks.append(look)
        report.errors += [text for text in (look.vm.attributes_error, look.error) if text]
    report.errors = list(dict.fromkeys(report.errors))
    report.deleted = [look.vm.name for look in looks if look.operation is not None]
    return looks


def _clean_up(yard: Yard, kept: Books, looks: list[Look], report: Report) -> None:
    """Ledger and stacks. A bucket that cannot be read costs this run's clean-up, no VM's end."""
    busy = {look.vm.session for look in looks if not look.verdict.end}
    stacks: list[Stack] = []
    states: dict[str, Known] | None = None
    with _noting(report):
        stacks, errors = read_stacks(yard, busy)
        report.errors += errors
        states = None if errors else _by_id(stacks)
    kept.gone.update(_wait_until_gone(yard, looks))
    alive = {look.vm.id for look in looks} - kept.gone
    with _noting(report):
        written, errors = books.close(kept, alive, states)
        report.ledger += written
        report.errors += errors
    done = Done()
    with _noting(report):
        left = [stack for stack in stacks if not _lives(stack, looks, alive)]
        reasons = {look.vm.session: look.verdict.reason for look in looks}
        tear_down(yard, left, reasons, done)
    report.destroyed += sorted(done.destroyed)
    report.postponed += [{"stack": stack, "reason": why} for stack, why in done.postponed]
    report.errors += done.errors


@contextmanager
def _noting(report: Report) -> Iterator[None]:
    """A part that fails costs itself only."""
    try:
        yield
    except FailedError as error:
        report.errors.append(str(error))


def _wait_until_gone(yard: Yard, looks: list[Look]) -> set[str]:
    """Ids of the VMs that this run ended and that are gone; the next run sees to the rest."""
    waiting = {look.vm.id: look.vm for look in looks if look.verdict.end and not look.error}
    gone: set[str] = set()
    left_s = yard.clock.left_s()
    stop_at_left_s = max(left_s - yard.settings.gone_within_s, left_s / 2)
    pause_s = FIRST_POLL_S
    while waiting:
        asked = each(list(waiting.values()), lambda vm: yard.cloud.compute.instance(vm.zone, vm.id))
        gone |= {vm.id for vm, found in asked if found is None}
        waiting = {vm_id: vm for vm_id, vm in waiting.items() if vm_id not in gone}
        if not waiting or yard.clock.left_s() < stop_at_left_s:
            break
        pause_s = max(pause_s, len(waiting) / POLLS_PER_S)
        yard.clock.wait(min(pause_s, yard.clock.left_s() - stop_at_left_s + MARGIN_S))
        pause_s = min(pause_s * POLL_GROWTH, LAST_POLL_S)
    return gone


def _lives(stack: Stack, looks: list[Look], alive: set[str]) -> bool:
    """True while a VM that Compute listed belongs to this stack, by number or by session."""
    numbers = {machine.id for machine in stack.machines}
    return any(
        look.vm.id in alive and (look.vm.id in numbers or look.vm.session == stack.name)
        for look in looks
    )


def _by_id(stacks: list[Stack]) -> dict[str, Known]:
    """What the states know of their VMs; by name where a create was cut off before its number."""
    return {
        known: Known(name=machine.name, zone=machine.zone, settings=machine.settings)
        for stack in stacks
        for machine in stack.machines
        if (known := machine.id or machine.name)
    }


def _row(look: Look) -> dict[str, Any]:
    verdict = asdict(look.verdict)
    return {
        "name": look.vm.name,
        "zone": look.vm.zone,
        "id": look.vm.id,
        "session": look.vm.session,
        **verdict,
        "ends_at": rfc3339(verdict["ends_at"]),
    }
