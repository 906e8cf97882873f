"""What our two kinds of VM have in common: its life, its rights, its way out."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from mayfly import names

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True, kw_only=True)
class InstanceArgs:
    """What one VM needs, already checked by `mayfly.settings`.

    provisioning: spot, flex-start or on-demand. max_life_s: seconds until GCE itself deletes it.
    boot_disk_gb: GiB, as Google counts a disk. subnet: self link. external: an ephemeral address.
    """

    project: str
    vm_name: str
    zone: str
    machine: str
    provisioning: str
    max_life_s: int
    image: str
    boot_disk_gb: int
    boot_disk_type: str
    subnet: str
    email: str
    external: bool
    metadata: dict[str, str]
    labels: dict[str, str]


def instance(name: str, args: InstanceArgs, parent: pulumi.Resource) -> gcp.compute.Instance:
    """A VM that dies on time even if every part of ours is dead."""
    compute = gcp.compute
    return compute.Instance(
        name,
        name=args.vm_name,
        project=args.project,
        zone=args.zone,
        machine_type=args.machine,
        boot_disk=compute.InstanceBootDiskArgs(
            auto_delete=True,
            initialize_params=compute.InstanceBootDiskInitializeParamsArgs(
                image=args.image,
                size=args.boot_disk_gb,
                type=args.boot_disk_type,
                labels=args.labels,
            ),
        ),
        network_interfaces=[_interface(args)],
        scheduling=scheduling(args.provisioning, args.max_life_s),
        reservation_affinity=_no_reservation(args.provisioning),
        service_account=compute.InstanceServiceAccountArgs(
            email=args.email, scopes=[CLOUD_PLATFORM]
        ),
        # Secure Boot would refuse the driver's unsigned modules; the rest of the chain is measured.
        shielded_instance_config=compute.InstanceShieldedInstanceConfigArgs(
            enable_secure_boot=False, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        metadata=args.metadata,
        labels=args.labels,
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


def scheduling(provisioning: str, max_life_s: int) -> gcp.compute.InstanceSchedulingArgs:
    """Delete at the end of life, whatever the model; never restart by itself, never migrate."""
    return gcp.compute.InstanceSchedulingArgs(
        provisioning_model=names.PROVISIONING[provisioning],
        preemptible=provisioning == "spot",
        automatic_restart=False,
        on_host_maintenance="TERMINATE",
        instance_termination_action="DELETE",
        max_run_duration=gcp.compute.InstanceSchedulingMaxRunDurationArgs(seconds=max_life_s),
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
