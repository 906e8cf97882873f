"""What a session tells its benchmark, and what it is: a result without that is soon an anecdote."""

import time
from typing import Any

from mayfly import endpoint, timeline, vms
from mayfly.cloud import Cloud

SETTINGS = ("profile", "machine", "provisioning", "zone", "region", "engine", "model", "revision")


def thinking_words(vm: vms.Vm) -> list[str]:
    """The inference test's word for a server that keeps thinking apart."""
    flags = vm.settings.get("serve_flags") or ()
    return ["--reasoning"] if any(str(f).startswith("--reasoning-parser") for f in flags) else []


def rate_words(vm: vms.Vm) -> list[str]:
    """The benchmark's words for what an hour costs; none where nobody knows."""
    if not vm.hourly_usd:
        return []
    words = ["--usd-per-hour", str(vm.hourly_usd)]
    for flag, key in (("--rate-source", "rate_source"), ("--rate-date", "rate_date")):
        if vm.settings.get(key):
            words += [flag, str(vm.settings[key])]
    return words


def session_facts(cloud: Cloud, vm: vms.Vm) -> dict[str, Any]:
    """What the session is, did and cost up to now. None = not known."""
    now, said = time.time(), vms.claims(cloud, vm) or {}
    stages = timeline.parse(said.get("timeline", ""))
    ready = [stage.end for stage in stages if stage.name == "check" and stage.end is not None]
    offers = endpoint.parse(said.get("endpoint", ""))
    limits = vm.limits()
    return {
        "session": vm.session,
        **{key: vm.settings.get(key) for key in SETTINGS},
        "serve_flags": vm.settings.get("serve_flags"),
        "mode": offers.mode if offers else vm.settings.get("mode"),
        "max_model_len": offers.max_model_len if offers else None,
        "idle_s": limits.idle_s if limits else None,
        "started_s": round(ready[-1] - vm.created_at, 1) if ready else None,
        "seconds": round(vm.age_s(now), 1),
        "usd": vm.cost_usd(now),
        "timeline": [
            {"stage": s.name, "start": s.start, "end": s.end, "bytes": s.bytes, "ok": s.ok}
            for s in stages
        ],
        "basis": "",
    }
