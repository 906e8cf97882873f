"""What our two kinds of VM have in common: its life, its rights, its way out."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from components import labels
from mayfly import names
from mayfly.machines import MACHINES
from mayfly.settings import VmSettings

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True, kw_only=True)
class InstanceArgs:
    """What the two kinds do not share; the rest is in `vm`, checked by `mayfly.settings`.

    boot_disk_gb: GiB, as Google counts a disk. subnet: self link. email: of its service account.
    external: an ephemeral address. metadata: all of it.
    """

    vm: VmSettings
    boot_disk_gb: int
    subnet: str
    email: str
    external: bool
    metadata: dict[str, str]


def instance(name: str, args: InstanceArgs, parent: pulumi.Resource) -> gcp.compute.Instance:
    """A VM that dies on time even if every part of ours is dead."""
    compute, vm, its_labels = gcp.compute, args.vm, labels.of_vm(args.vm)
    return compute.Instance(
        name,
        name=vm.vm_name,
        project=vm.project,
        zone=vm.zone,
        machine_type=vm.machine,
        boot_disk=compute.InstanceBootDiskArgs(
            auto_delete=True,
            initialize_params=compute.InstanceBootDiskInitializeParamsArgs(
                image=vm.image,
                size=args.boot_disk_gb,
                type=MACHINES[vm.machine].boot_disk,
                labels=its_labels,
            ),
        ),
        network_interfaces=[_interface(args)],
        scheduling=scheduling(vm.provisioning, vm.limits.max_life_s),
        reservation_affinity=_no_reservation(vm.provisioning),
        service_account=compute.InstanceServiceAccountArgs(
            email=args.email, scopes=[CLOUD_PLATFORM]
        ),
        # Secure Boot would refuse the driver's unsigned modules; the rest of the chain is measured.
        shielded_instance_config=compute.InstanceShieldedInstanceConfigArgs(
            enable_secure_boot=False, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        metadata=args.metadata,
        labels=its_labels,
        tags=[names.VM_TAG],
        opts=pulumi.ResourceOptions(
            parent=parent,
            # A family is not recognised in the disk's image: the next plain `up` would replace
            # the VM (recorded with provider 9.35.0, 2026-11-23).
            ignore_changes=["bootDisk.initializeParams.image"],
            # In place this would need a stop, and a stopped node has lost its weights.
            replace_on_changes=["machineType"],
        ),
    )


def scheduling(provisioning: str, max_life_s: float) -> gcp.compute.InstanceSchedulingArgs:
    """Delete at the end of life, whatever the model; never restart by itself, never migrate."""
    return gcp.compute.InstanceSchedulingArgs(
        provisioning_model=names.PROVISIONING[provisioning],
        preemptible=provisioning == "spot",
        automatic_restart=False,
        on_host_maintenance="TERMINATE",
        instance_termination_action="DELETE",
        max_run_duration=gcp.compute.InstanceSchedulingMaxRunDurationArgs(seconds=int(max_life_s)),
    )


def _no_reservation(provisioning: str) -> gcp.compute.InstanceReservationAffinityArgs | None:
    """Flex-start takes no part in reservations and has to say so."""
    if provisioning != "flex-start":
        return None
    return gcp.compute.InstanceReservationAffinityArgs(type="NO_RESERVATION")


def _interface(args: InstanceArgs) -> gcp.compute.InstanceNetworkInterfaceArgs:
    compute = gcp.compute
    external = [compute.InstanceNetworkInterfaceAccessConfigArgs(network_tier="PREMIUM")]
    return compute.InstanceNetworkInterfaceArgs(
        subnetwork=args.subnet,
        nic_type="GVNIC",
        access_configs=external if args.external else None,
    )
