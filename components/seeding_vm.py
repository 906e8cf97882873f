"""The CPU VM that brings weights, engine and driver into the bucket."""

from dataclasses import dataclass

import pulumi

from components import vm_settings
from components.foundation_outputs import FoundationOutputs
from components.instance import InstanceArgs, instance
from mayfly.settings import SeedSettings


@dataclass(frozen=True, kw_only=True)
class SeedingVmArgs:
    """settings: checked by `mayfly.settings`. foundation: what the VM stands on."""

    settings: SeedSettings
    foundation: FoundationOutputs


class SeedingVm(pulumi.ComponentResource):
    """One CPU VM with a way out to the hub, no way in but IAP, and a deadline of its own.

    An ephemeral address costs cents; a NAT gateway would cost some $25 a model. vm_id: Compute's
    numeric id. created_at: RFC 3339.
    """

    vm_id: pulumi.Output[str]
    created_at: pulumi.Output[str]

    def __init__(
        self, name: str, args: SeedingVmArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:SeedingVm", name, None, opts)
        foundation, vm = args.foundation, args.settings.vm
        told = vm_settings.for_seed(args.settings, foundation)
        made = instance(
            f"{name}-vm",
            InstanceArgs(
                vm=vm,
                boot_disk_gb=vm.profile.seeding.disk_gb,
                subnet=foundation.subnets[vm.region],
                email=foundation.seeder_email,
                external=True,
                metadata=vm_settings.metadata(told),
            ),
            self,
        )
        self.vm_id = made.instance_id
        self.created_at = made.creation_timestamp
        self.register_outputs({"vm_id": self.vm_id, "created_at": self.created_at})
