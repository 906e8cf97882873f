"""The layer that serves: one GPU VM, and the wait until it does."""

from typing import Any

import pulumi

from components import foundation_outputs, live_vm, seeded
from components.deadline import deadline
from components.gpu_node import GpuNode, GpuNodeArgs
from components.readiness import Readiness, ReadinessArgs
from mayfly.settings import SessionSettings


def build(settings: SessionSettings) -> dict[str, Any]:
    """Make a session; returns the stack's outputs. RunError without a foundation."""
    vm = settings.vm
    foundation = foundation_outputs.read(vm)
    lives = live_vm.guard(vm, {"profile": vm.profile.name, "mode": settings.mode})
    if not lives:
        seeded.check(vm, foundation)
    node = GpuNode("node", GpuNodeArgs(settings=settings, foundation=foundation))
    wait = ReadinessArgs(vm=vm, vm_id=node.vm_id, phase="serving", start_s=vm.limits.start_s)
    readiness = Readiness("readiness", wait)
    return {
        "endpoint_url": f"http://127.0.0.1:{settings.local_port}/v1",
        "connect_command": f"mayfly connect {vm.session}",
        "ssh_command": f"gcloud compute ssh {vm.vm_name} --project {vm.project} --zone {vm.zone}"
        " --tunnel-through-iap",
        "deadline": deadline(node.created_at, vm.limits.max_life_s),
        "hourly_usd": vm.rate.hourly_usd,
        "api_key": pulumi.Output.secret(foundation.api_key),
        "session": vm.session,
        "profile": vm.profile.name,
        "served_model": vm.profile.served_model,
        "project": vm.project,
        "zone": vm.zone,
        "vm_name": vm.vm_name,
        "vm_id": node.vm_id,
        "phase": readiness.phase,
    }
