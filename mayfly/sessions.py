"""Every VM of ours as one row: what it does, when it ends by itself, what it has cost."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mayfly import endpoint, idle, load, pricing, timeline, vms
from mayfly.cloud import Cloud


def rows(cloud: Cloud) -> list[dict[str, Any]]:
    """A row for every VM of ours."""
    found = vms.all_of_ours(cloud)
    with ThreadPoolExecutor(max(1, min(8, len(found)))) as pool:
        return list(pool.map(lambda vm: row(cloud, vm), found))


def row(cloud: Cloud, vm: vms.Vm) -> dict[str, Any]:
    """One VM. Times are RFC 3339 UTC or seconds; null where something is not known."""
    observed, said = vms.look(cloud, vm)
    now = time.time()
    limits = vm.limits()
    verdict = idle.verdict(observed, limits, now) if limits else None
    serves = observed.phase == "serving" and vm.status == "RUNNING"
    offers = endpoint.parse(said.get("endpoint", "")) if serves else None
    # Behind an old heartbeat a speed is of another time.
    fresh = serves and verdict is not None and verdict.kind != "silent"
    work = load.parse(said.get("load", "")) if fresh else None
    return {
        "session": vm.session,
        "layer": vm.layer,
        "profile": vm.settings.get("profile"),
        "started_by": vm.settings.get("started_by") or None,
        "phase": observed.phase or "booting",
        "message": vms.printable(said.get("message", "")),
        "mode": offers.mode if offers else None,
        "max_model_len": offers.max_model_len if offers else None,
        "tok_s": work.tok_s if work else None,
        "requests_running": work.running if work else None,
        "requests_waiting": work.waiting if work else None,
        "vm": vm.name,
        "vm_id": vm.id,
        "zone": vm.zone,
        "status": vm.status,
        "provisioning": vm.provisioning,
        "created_at": idle.rfc3339(vm.created_at),
        "age_s": round(vm.age_s(now)),
        "verdict": verdict.kind if verdict else None,
        "reason": verdict.reason if verdict else "its settings cannot be read",
        "ends_at": idle.rfc3339(verdict.ends_at) if verdict else None,
        "deadline": idle.rfc3339(vm.created_at + limits.max_life_s) if limits else None,
        **money(vm, now),
        "timeline": [stage(each) for each in timeline.parse(said.get("timeline", ""))],
    }


def money(vm: vms.Vm, now: float) -> dict[str, Any]:
    """The meter: seconds that it ran, by the rate written at launch; an old rate is said."""
    cost = vm.cost_usd(now)
    source, date = (vm.settings.get(key) for key in ("rate_source", "rate_date"))
    return {
        "hourly_usd": vm.hourly_usd,
        "cost_usd": None if cost is None else round(cost, 4),
        "rate_source": source,
        "rate_date": date,
        "rate_warning": old_rate(vm.hourly_usd, source, date) or None,
    }


def old_rate(usd_per_h: float | None, source: object, date: object) -> str:
    """One line where the rate of a VM's settings is more than 30 days old."""
    if usd_per_h is None or not isinstance(date, str):
        return ""
    try:
        return pricing.age_warning(usd_per_h, vms.printable(str(source)), date, pricing.utc_today())
    except ValueError:
        return ""


def stage(each: timeline.Stage) -> dict[str, Any]:
    return {
        "stage": each.name,
        "started_at": idle.rfc3339(each.start),
        "ended_at": idle.rfc3339(each.end),
        "took_s": None if each.end is None else round(max(0.0, each.end - each.start), 1),
        "bytes": each.bytes,
        "ok": each.ok,
    }
