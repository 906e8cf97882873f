"""`mayfly idle`: whether a session is idle, why, and when it ends if nothing happens."""

import json
import time
from typing import Any

from mayfly import idle, names, remote, vms
from mayfly.cloud import Cloud
from mayfly.commands.status import minutes
from mayfly.errors import FailedError


def run(session: str, *, as_json: bool) -> None:
    """Print the verdict that the watchdog and the reaper come to; nothing is changed."""
    cloud, vm = find(session)
    found = facts(cloud, vm, time.time())
    print(json.dumps(found, indent=2) if as_json else "\n".join(told(found, time.time())))


def find(session: str) -> tuple[Cloud, vms.Vm]:
    """The door and the VM of that name; without one, the only session. Raises WrongInputError."""
    project, cloud, there = remote.look(session)
    if not session:
        there = [vm for vm in there if vm.layer == names.SESSION]
    return cloud, vms.pick(there, session, project)


def limits(vm: vms.Vm) -> idle.Limits:
    """What the VM lives by. FailedError when its settings do not say."""
    found = vm.limits()
    if found is None:
        raise FailedError(
            f"The settings of {vm.name} cannot be read: mayfly cannot say when it ends.",
            "It runs and costs money; the reaper holds it to the defaults.",
            f"Try: mayfly down {vm.session}",
        )
    return found


def facts(cloud: Cloud, vm: vms.Vm, now: float) -> dict[str, Any]:
    """Times are RFC 3339 UTC; null where something is not known, or there is none."""
    bounds = limits(vm)
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
    name, kind = found["session"], found["verdict"]
    lines = [f"{name}: {found['reason']}."]
    if kind == "leased":
        lines = [f"{name} is kept until {when(found['kept_until'], now)}, by {found['kept_by']}."]
    if found["active_at"]:
        what = found["activity"] or "not said"
        lines.append(f"Last activity {when(found['active_at'], now)}: {what}.")
    if found["unknown"]:
        lines.append(f"The watchdog cannot see: {found['unknown']}.")
    if kind == "gone":
        return [*lines, f"Try: mayfly down {name}   (what is left of its stack)"]
    if found["end"]:
        return [*lines, "It ends now."]
    lines.append(
        f"It ends {when(found['ends_at'], now)} if nothing happens, "
        f"{when(found['deadline'], now)} in any case."
    )
    if kind in ("idle", "active", "failed"):
        lines.append(f"To keep it longer: mayfly keep 1h {name}")
    return lines


def when(stamped: str, now: float) -> str:
    """ "2026-11-23T20:30:00Z (in 8 min)"."""
    left_s = vms.seconds(stamped) - now
    return f"{stamped} ({f'in {minutes(left_s)}' if left_s >= 0 else f'{minutes(-left_s)} ago'})"
