"""The layer that fills the buckets: one CPU VM, and the wait until the manifest is written."""

from typing import Any

from components import foundation_outputs, live_vm
from components.readiness import Readiness, ReadinessArgs
from components.seeding_vm import SeedingVm, SeedingVmArgs
from mayfly import names
from mayfly.settings import SeedSettings


def build(settings: SeedSettings) -> dict[str, Any]:
    """Make a seed; returns the stack's outputs. RunError without a foundation.

    The wait lasts as long as the VM may: 600 GB take half an hour on a good day.
    """
    vm = settings.vm
    foundation = foundation_outputs.read(vm)
    live_vm.guard(vm, {"profile": vm.profile.name})
    seeder = SeedingVm("seeder", SeedingVmArgs(settings=settings, foundation=foundation))
    wait = ReadinessArgs(vm=vm, vm_id=seeder.vm_id, phase="seeded", start_s=vm.limits.max_life_s)
    readiness = Readiness("readiness", wait)
    prefix = names.model_prefix(vm.profile.model, vm.profile.revision)
    return {
        "session": vm.session,
        "profile": vm.profile.name,
        "model": vm.profile.model,
        "weights_uri": f"gs://{foundation.weights_bucket}/{prefix}",
        "vm_name": vm.vm_name,
        "vm_id": seeder.vm_id,
        "zone": vm.zone,
        "phase": readiness.phase,
    }
