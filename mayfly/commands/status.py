"""`mayfly status`: what there is, what it does, when it ends by itself, what it costs."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mayfly import endpoint, idle, load, pricing, timeline, vms
from mayfly.cloud import Cloud, CloudError, connect
from mayfly.project import find_project

WATCH_EVERY_S = 5.0


def run(*, as_json: bool, watch: bool = False) -> None:
    """Print every VM of ours in the project, whoever started it; nothing is changed.

    watch: again and again until Ctrl-C; as JSON, one object a line.
    """
    project = find_project().google_project()
    cloud = connect(project)
    if watch:
        return watch_on(project, cloud, as_json=as_json)
    found = rows(cloud)
    if as_json:
        print(json.dumps({"project": project, "sessions": found}, indent=2))
        return None
    from mayfly.commands.status_view import show

    show(project, found)
    return None


def watch_on(project: str, cloud: Cloud, *, as_json: bool) -> None:
    """Show what there is now until Ctrl-C; a cloud that does not answer for a while is said."""
    try:
        if as_json:
            for found, trouble in looks(cloud):
                told = {"project": project, "sessions": found, "trouble": trouble or None}
                print(json.dumps(told), flush=True)
        else:
            from mayfly.commands.status_view import follow

            follow(project, looks(cloud))
    except KeyboardInterrupt:
        return


def looks(cloud: Cloud) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """(rows, "") each few seconds; (the last rows, why there are no newer ones) meanwhile."""
    last: list[dict[str, Any]] = []
    while True:
        trouble = ""
        try:
            last = rows(cloud)
        except CloudError as error:
            if error.status not in (0, 429) and error.status < 500:
                raise
            trouble = error.message
        yield last, trouble
        time.sleep(WATCH_EVERY_S)


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


def until_s(stamped: str) -> float:
    """Seconds from now to an RFC 3339 time; 0 if it is over."""
    return max(0.0, vms.seconds(stamped) - time.time())


def minutes(seconds: float) -> str:
    """Seconds for people: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 120 else f"{whole // 60} h {whole % 60} min"
