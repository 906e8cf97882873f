"""`mayfly keep`: hold a session that looks idle, for a while, with the user's own rights."""

import getpass
import json
import math
import time
from typing import Any

from mayfly import idle, names, vms
from mayfly.cloud import Cloud, CloudError
from mayfly.commands import idle as looks
from mayfly.commands.status import minutes
from mayfly.errors import FailedError, RefusedError, WrongInputError
from mayfly.spans import parse_span

TRIES = 5


def run(span: str, session: str, *, release: bool, as_json: bool) -> None:
    """Write or remove the session's lease. RefusedError beyond the deadline, or without a VM."""
    if release:
        if span and session:
            raise wrong(f"--release takes no time ({span}).", f"mayfly keep --release {session}")
        released(span or session, as_json)
        return
    span_s = parse_span(span)
    if not span_s:
        what = f"{span!r} is no time to keep a session: a number and s, m, h or d."
        raise wrong(what if span else "For how long?", "mayfly keep 2h")
    cloud, vm = looks.find(session)
    now = time.time()
    check(cloud, vm, span_s, now)
    try:
        lease = write(cloud, vm, math.floor(now + span_s))
    except CloudError as error:
        raise explained(error, vm) from error
    if as_json:
        print(json.dumps(found(vm, lease)))
        return
    left_s = lease.until - now
    rate = vm.hourly_usd
    costs = "at an unknown rate" if rate is None else f"about ${rate * left_s / 3600:.2f}"
    print(f"{vm.session} is kept until {looks.when(stamp(lease), now)}, by {lease.by}: {costs}.")
    if lease.until > now + span_s + 1:
        print(f"That is longer than you asked for; to end it: mayfly keep --release {vm.session}")


def wrong(what: str, remedy: str) -> WrongInputError:
    return WrongInputError(what, "Nothing was attempted.", f"Try: {remedy}")


def check(cloud: Cloud, vm: vms.Vm, span_s: float, now: float) -> None:
    """Raises RefusedError where a lease would hold nothing."""
    bounds = looks.limits(vm)
    observed, _ = vms.look(cloud, vm)
    verdict = idle.verdict(observed, bounds, now)
    if verdict.kind in ("gone", "deadline"):
        raise RefusedError(
            f"{vm.session} has ended: {verdict.reason}.",
            "There is nothing to keep.",
            f"Try: pulumi up --stack {vm.session}",
        )
    left_s = vm.created_at + bounds.max_life_s - now
    if span_s <= left_s:
        return
    whole = f"{math.floor(left_s / 60)}m" if left_s >= 60 else f"{math.floor(left_s)}s"
    raise RefusedError(
        f"{vm.session} cannot be kept for {minutes(span_s)}: its deadline is "
        f"{looks.when(str(idle.rfc3339(now + left_s)), now)}.",
        "Hours and budget are written at launch, and Google itself ends it then. "
        "Nothing was changed.",
        f"Try: mayfly keep {whole} {vm.session}",
    )


def write(cloud: Cloud, vm: vms.Vm, until: int) -> idle.Lease:
    """The lease that holds from now on: this one, or a longer one that is there already."""
    body = {"until": idle.rfc3339(until), "by": user(), "vm_id": vm.id}
    for _ in range(TRIES):
        blob = vms.lease_object(cloud, bucket(vm), names.lease(vm.session))
        there = idle.parse_lease(blob.data) if blob else None
        if there is not None and there.holds(vm.id) and there.until >= until:
            return there  # nobody's lease is cut short by another's
        written = cloud.storage.put(
            bucket(vm),
            names.lease(vm.session),
            json.dumps(body).encode(),
            if_generation_match=blob.generation if blob else 0,
        )
        if written is not None:
            return idle.Lease(until, str(body["by"]), vm.id)
    raise FailedError(
        f"The lease of {vm.session} changes faster than it can be written.",
        "It is not kept by this call; the session runs on.",
        f"Try: mayfly idle {vm.session}",
    )


def released(session: str, as_json: bool) -> None:
    """Remove the lease; that there is none is fine. RefusedError where a newer one came meanwhile.

    Only what was read is taken away: somebody may keep the session at this very moment.
    """
    cloud, vm = looks.find(session)
    over = json.dumps({"until": idle.rfc3339(0), "by": user(), "vm_id": vm.id}).encode()
    name = names.lease(vm.session)
    try:
        blob = vms.lease_object(cloud, bucket(vm), name)
        # Written first: who may not list is refused the delete of a lease that is not there.
        held = blob.generation if blob else 0
        written = cloud.storage.put(bucket(vm), name, over, if_generation_match=held)
        gone = written is not None and cloud.storage.delete(
            bucket(vm), name, if_generation_match=written
        )
    except CloudError as error:
        raise explained(error, vm) from error
    if not gone:
        raise RefusedError(
            f"Somebody has kept {vm.session} anew in this moment.",
            "That lease was left alone; the session is kept.",
            f"Try: mayfly idle {vm.session}, which says by whom; then the same command again",
        )
    if as_json:
        print(json.dumps(found(vm, None)))
    else:
        print(f"{vm.session} is kept by nobody; it ends when it is idle.")


def explained(error: CloudError, vm: vms.Vm) -> CloudError | FailedError:
    """A refusal by its cause: the right to write is the user's own."""
    if error.status != vms.FORBIDDEN or error.denied:
        return error
    return FailedError(
        f"You may not write gs://{bucket(vm)}/{names.lease(vm.session)}: {error.message}",
        "Nothing was changed; the session ends when it is idle.",
        "Try: pulumi up --stack foundation   (by who owns the project, once mayfly:members in "
        "Pulumi.foundation.yaml names you)",
    )


def bucket(vm: vms.Vm) -> str:
    """The state bucket that the VM and the reaper read. FailedError when it is not named."""
    name = vm.settings.get("state_bucket")
    if not isinstance(name, str) or not name:
        raise FailedError(
            f"The settings of {vm.name} name no state bucket, where leases lie.",
            "Nothing was changed; the session ends when it is idle.",
            f"Try: mayfly idle {vm.session}",
        )
    return name


def found(vm: vms.Vm, lease: idle.Lease | None) -> dict[str, Any]:
    return {
        "session": vm.session,
        "kept_until": stamp(lease) if lease else None,
        "kept_by": lease.by if lease else None,
    }


def stamp(lease: idle.Lease) -> str:
    return str(idle.rfc3339(lease.until))


def user() -> str:
    """Who asks, as this machine calls them."""
    try:
        return vms.printable(getpass.getuser(), 80)
    except (OSError, KeyError):  # a container's user without a name
        return "somebody"
