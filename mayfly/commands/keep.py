"""`mayfly keep`: hold a session that looks idle, for a while, with the user's own rights."""

import json
import math
import time
from typing import Any

from mayfly import idle, leases, remote, vms
from mayfly.cloud import Cloud
from mayfly.errors import RefusedError, WrongInputError
from mayfly.spans import minutes, parse_span, when


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
    place, now = remote.find_any(session), time.time()
    vm = place.vm
    check(place.cloud, vm, span_s, now)
    lease = leases.keep(place.cloud, vm, math.floor(now + span_s))
    if as_json:
        print(json.dumps(found(vm, lease)))
        return
    left_s, rate = lease.until - now, vm.hourly_usd
    costs = "at an unknown rate" if rate is None else f"about ${rate * left_s / 3600:.2f}"
    print(f"{vm.session} is kept until {when(stamp(lease), left_s)}, by {lease.by}: {costs}.")
    if lease.until > now + span_s + 1:
        print(f"That is longer than you asked for; to end it: mayfly keep --release {vm.session}")


def wrong(what: str, remedy: str) -> WrongInputError:
    return WrongInputError(what, "Nothing was attempted.", f"Try: {remedy}")


def check(cloud: Cloud, vm: vms.Vm, span_s: float, now: float) -> None:
    """Raises RefusedError where a lease would hold nothing."""
    bounds = vms.known_limits(vm)
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
        f"{when(str(idle.rfc3339(now + left_s)), left_s)}.",
        "Hours and budget are written at launch, and Google itself ends it then. "
        "Nothing was changed.",
        f"Try: mayfly keep {whole} {vm.session}",
    )


def released(session: str, as_json: bool) -> None:
    place = remote.find_any(session)
    leases.release(place.cloud, place.vm)
    if as_json:
        print(json.dumps(found(place.vm, None)))
    else:
        print(f"{place.vm.session} is kept by nobody; it ends when it is idle.")


def found(vm: vms.Vm, lease: idle.Lease | None) -> dict[str, Any]:
    return {
        "session": vm.session,
        "kept_until": stamp(lease) if lease else None,
        "kept_by": lease.by if lease else None,
    }


def stamp(lease: idle.Lease) -> str:
    return str(idle.rfc3339(lease.until))
