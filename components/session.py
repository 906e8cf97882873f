"""The layer that serves, or measures one rank: one GPU VM, and the wait until it has."""

from typing import Any

import pulumi

from components import foundation_outputs, live_vm, seeded
from components.deadline import deadline
from components.foundation_outputs import FoundationOutputs
from components.gpu_node import GpuNode, GpuNodeArgs
from components.readiness import Readiness, ReadinessArgs
from mayfly.settings import SessionSettings


def build(settings: SessionSettings) -> dict[str, Any]:
    """Make a session; returns the stack's outputs. RunError without a foundation."""
    vm = settings.vm
    foundation = foundation_outputs.read(vm)
    lives = live_vm.guard(vm, _told(settings))
    if not lives:
        seeded.check(vm, foundation, weights=not settings.probe)
    node = GpuNode("node", GpuNodeArgs(settings=settings, foundation=foundation))
    phase = "probed" if settings.probe else "serving"
    wait = ReadinessArgs(vm=vm, vm_id=node.vm_id, phase=phase, start_s=vm.limits.start_s)
    readiness = Readiness("readiness", wait)
    ours = {} if settings.probe else _endpoint(settings, foundation)
    return {
        **ours,
        "ssh_command": f"gcloud compute ssh {vm.vm_name} --project {vm.project} --zone {vm.zone}"
        " --tunnel-through-iap",
        "deadline": deadline(node.created_at, vm.limits.max_life_s),
        "hourly_usd": vm.rate.hourly_usd,
        "session": vm.session,
        "profile": vm.profile.name,
        "project": vm.project,
        "zone": vm.zone,
        "vm_name": vm.vm_name,
        "vm_id": node.vm_id,
        "phase": readiness.phase,
    }


def _told(settings: SessionSettings) -> dict[str, str]:
    """What a VM that lives must have been told at its birth."""
    told = {"profile": settings.vm.profile.name, "mode": settings.mode}
    if settings.probe:
        return {**told, "layer": "probe", "probe": settings.probe}
    return {**told, "layer": settings.vm.layer}


def _endpoint(settings: SessionSettings, foundation: FoundationOutputs) -> dict[str, Any]:
    return {
        "endpoint_url": f"http://127.0.0.1:{settings.local_port}/v1",
        "connect_command": f"mayfly connect {settings.vm.session}",
        "api_key": pulumi.Output.secret(foundation.api_key),
        "served_model": settings.vm.profile.served_model,
    }
