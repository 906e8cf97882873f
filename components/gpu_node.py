"""The GPU VM that serves a model, or measures one rank of it."""

from dataclasses import dataclass

import pulumi

from components import vm_settings
from components.foundation_outputs import FoundationOutputs
from components.instance import InstanceArgs, instance
from mayfly.machines import MACHINES
from mayfly.settings import SessionSettings

BOOT_DISK_GB = 100
"""Driver, engine and logs; the weights lie in memory. Local SSDs come with the machine type."""


@dataclass(frozen=True, kw_only=True)
class GpuNodeArgs:
    """settings: checked by `mayfly.settings`. foundation: what the VM stands on."""

    settings: SessionSettings
    foundation: FoundationOutputs


class GpuNode(pulumi.ComponentResource):
    """One GPU VM that dies on time even if every part of ours is dead.

    It has no address on the internet unless `nodeInternet` says so. vm_id: Compute's numeric id,
    another for each VM under the same name. created_at: RFC 3339.
    """

    vm_id: pulumi.Output[str]
    created_at: pulumi.Output[str]

    def __init__(
        self, name: str, args: GpuNodeArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:GpuNode", name, None, opts)
        settings, foundation, vm = args.settings, args.foundation, args.settings.vm
        told = (
            vm_settings.for_probe(settings, foundation)
            if settings.probe
            else vm_settings.for_session(settings, foundation, MACHINES[vm.machine].gpus)
        )
        made = instance(
            f"{name}-vm",
            InstanceArgs(
                vm=vm,
                boot_disk_gb=BOOT_DISK_GB,
                subnet=foundation.subnets[vm.region],
                email=foundation.node_email,
                external=settings.node_internet,
                metadata=vm_settings.metadata(told),
            ),
            self,
        )
        self.vm_id = made.instance_id
        self.created_at = made.creation_timestamp
        self.register_outputs({"vm_id": self.vm_id, "created_at": self.created_at})
