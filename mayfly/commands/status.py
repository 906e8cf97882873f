"""`mayfly status`: what there is, what it does, when it ends by itself, what it costs."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mayfly import endpoint, idle, vms
from mayfly.cloud import Cloud, connect
from mayfly.project import find_project


def run(*, as_json: bool) -> None:
    """Print every VM of ours in the project; nothing is changed."""
    project = find_project().google_project()
    cloud = connect(project)
    found = vms.all_of_ours(cloud)
    with ThreadPoolExecutor(max(1, min(8, len(found)))) as pool:
        rows = list(pool.map(lambda vm: row(cloud, vm), found))
    if as_json:
        print(json.dumps({"project": project, "sessions": rows}, indent=2))
    else:
        show(project, rows)


def row(cloud: Cloud, vm: vms.Vm) -> dict[str, Any]:
    """One VM. Times are RFC 3339 UTC or seconds; null where something is not known."""
    observed, said = vms.look(cloud, vm)
    now = time.time()
    limits = vm.limits()
    verdict = idle.verdict(observed, limits, now) if limits else None
    cost = vm.cost_usd(now)
    serves = endpoint.parse(said.get("endpoint", "")) if observed.phase == "serving" else None
    return {
        "session": vm.session,
        "layer": vm.layer,
        "profile": vm.settings.get("profile"),
        "phase": observed.phase or "booting",
        "message": vms.printable(said.get("message", "")),
        "mode": serves.mode if serves else None,
        "max_model_len": serves.max_model_len if serves else None,
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
        "hourly_usd": vm.hourly_usd,
        "cost_usd": None if cost is None else round(cost, 4),
        "rate_source": vm.settings.get("rate_source"),
        "rate_date": vm.settings.get("rate_date"),
    }


def show(project: str, rows: list[dict[str, Any]]) -> None:
    """The rows for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not rows:
        console.print(f"Nothing of mayfly's runs in {project}; no machine costs money.")
        return
    table = Table("session", "phase", "zone", "age", "ends", "$/h", "so far", "why")
    for r in rows:
        ends_at = r["ends_at"]
        cells = [
            r["session"] if r["layer"] == "session" else f"{r['session']} ({r['layer']})",
            r["phase"] if r["status"] == "RUNNING" else f"{r['phase']} ({r['status']})",
            r["zone"],
            minutes(r["age_s"]),
            "?" if ends_at is None else f"in {minutes(until_s(ends_at))}",
            "?" if r["hourly_usd"] is None else f"{r['hourly_usd']:.2f}",
            "?" if r["cost_usd"] is None else f"${r['cost_usd']:.2f}",
            r["reason"],
        ]
        # Text, not markup: what a VM says of itself must not be read as formatting.
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    for r in rows:
        if r["mode"] is not None:
            told = f"up to {r['max_model_len']:,} tokens, mode {r['mode']}"
            why = r["message"] if r["mode"] == endpoint.SAFE else ""
            console.print(Text(f"{r['session']}: {why or told}"))


def until_s(stamped: str) -> float:
    """Seconds from now to an RFC 3339 time; 0 if it is over."""
    return max(0.0, vms.seconds(stamped) - time.time())


def minutes(seconds: float) -> str:
    """Seconds for people: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 120 else f"{whole // 60} h {whole % 60} min"
