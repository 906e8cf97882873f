"""`mayfly idle`: whether a session is idle, why, and when it ends if nothing happens."""

import json
import time
from typing import Any

from mayfly import idle, remote, spans, vms
from mayfly.cloud import Cloud


def run(session: str, *, as_json: bool) -> None:
    """Print the verdict that the watchdog and the reaper come to; nothing is changed."""
    place = remote.find_any(session)
    found = facts(place.cloud, place.vm, time.time())
    print(json.dumps(found, indent=2) if as_json else "\n".join(told(found, time.time())))


def facts(cloud: Cloud, vm: vms.Vm, now: float) -> dict[str, Any]:
    """Times are RFC 3339 UTC; null where something is not known, or there is none."""
    bounds = vms.known_limits(vm)
    lease = vms.lease(cloud, vm)
    said = vms.claims(cloud, vm) or {}
    until = lease.until if lease is not None else None
    seen = idle.parse_observation(vm.status, vm.created_at, said, until, now)
    verdict = idle.verdict(seen, bounds, now)
    look = vms.parse_look(said.get("look", ""))
    held = lease is not None and lease.until > now
    return {
        "session": vm.session,
        "phase": seen.phase or "booting",
        "verdict": verdict.kind,
        "end": verdict.end,
        "reason": verdict.reason,
        "ends_at": idle.rfc3339(verdict.ends_at),
        "deadline": idle.rfc3339(vm.created_at + bounds.max_life_s),
        "active_at": idle.rfc3339(seen.active_at),
        "activity": look.active or None,
        "looked_at": idle.rfc3339(seen.heartbeat_at),
        "unknown": look.unknown or None,
        "idle_limit_s": bounds.idle_s,
        "kept_until": idle.rfc3339(lease.until) if lease is not None and held else None,
        "kept_by": vms.printable(lease.by, 80) if lease is not None and held else None,
    }


def told(found: dict[str, Any], now: float) -> list[str]:
    """The facts for people."""

    def when(stamped: str) -> str:
        return spans.when(stamped, vms.seconds(stamped) - now)

    name, kind = found["session"], found["verdict"]
    lines = [f"{name}: {found['reason']}."]
    if kind == "leased":
        lines = [f"{name} is kept until {when(found['kept_until'])}, by {found['kept_by']}."]
    if found["active_at"]:
        what = found["activity"] or "not said"
        lines.append(f"Last activity {when(found['active_at'])}: {what}.")
    if found["unknown"]:
        lines.append(f"The watchdog cannot see: {found['unknown']}.")
    if kind == "gone":
        return [*lines, f"Try: mayfly down {name}   (what is left of its stack)"]
    if found["end"]:
        return [*lines, "It ends now."]
    lines.append(
        f"It ends {when(found['ends_at'])} if nothing happens, "
        f"{when(found['deadline'])} in any case."
    )
    if kind in ("idle", "active", "failed"):
        lines.append(f"To keep it longer: mayfly keep 1h {name}")
    return lines
