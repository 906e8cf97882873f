"""An instance's resource, made from an insert request."""

from __future__ import annotations

from typing import Any

from local.rest.compute import rules
from local.rest.compute.catalogue import MachineType, region_of
from local.rest.compute.disks import check_size, disk_fields, disk_type, resolve_image
from local.rest.compute.images_data import Image
from local.rest.compute.labels import check_labels, give_labels
from local.rest.compute.links import fingerprint, last, link, path_of, timestamp
from local.rest.compute.routers import free_external, free_internal
from local.rest.compute.store import Store, in_use
from local.rest.errors import ApiError

Body = dict[str, Any]
SHIELDED = {"enableSecureBoot": False, "enableVtpm": True, "enableIntegrityMonitoring": True}


class Birth:
    """Checks everything first, then makes the disks and the instance: nothing half done."""

    def __init__(self, store: Store, zone: str, body: Body) -> None:
        self.store, self.zone, self.body = store, zone, body
        self.project = store.world.project
        self.where = f"zones/{zone}"
        self.kind: MachineType = rules.machine_type(
            body.get("machineType"), self.project, zone, "resource.machineType"
        )
        self._disks: list[tuple[Body, Body | None]] = []

    def make(self) -> Body:
        """The new instance, in status PROVISIONING, its disks attached."""
        path = self.store.path(self.where, "instances", self.body["name"])
        if self.store.find(path):
            raise ApiError(409, f"The resource '{path}' already exists")
        fields = self._fields()
        self._plan_disks()
        instance = self.store.new(self.where, "instances", fields)
        give_labels(instance, self.body.get("labels", {}))
        instance["disks"] = [self._attach(instance, i, *plan) for i, plan in enumerate(self._disks)]
        return instance

    def _fields(self) -> Body:
        body = self.body
        check_labels(body.get("labels", {}))
        self._check_accelerators()
        fields = {k: v for k, v in body.items() if k not in _DROPPED}
        fields |= {
            "machineType": link(self.store.path(self.where, "machineTypes", self.kind.name)),
            "scheduling": rules.scheduling(
                body.get("scheduling", {}), self.kind, "resource.scheduling"
            ),
            "metadata": rules.metadata(body.get("metadata", {}), "resource.metadata"),
            "tags": rules.tags(body.get("tags", {}), "resource.tags"),
            "networkInterfaces": self._interfaces(),
            "shieldedInstanceConfig": SHIELDED | body.get("shieldedInstanceConfig", {}),
            "shieldedInstanceIntegrityPolicy": {"updateAutoLearnPolicy": True},
            "canIpForward": body.get("canIpForward", False),
            "deletionProtection": body.get("deletionProtection", False),
            "status": "PROVISIONING",
            "startRestricted": False,
            "cpuPlatform": "Intel Sapphire Rapids" if self.kind.gpus else "Intel Cascade Lake",
            "fingerprint": fingerprint([body["name"], self.store.world.clock()]),
        }
        number = self.store.world.project_number
        accounts = rules.service_accounts(
            body.get("serviceAccounts", []), number, "resource.serviceAccounts"
        )
        if accounts:
            fields["serviceAccounts"] = accounts
        if self.kind.accelerator:
            fields["guestAccelerators"] = [self._accelerator()]
        return fields

    def _accelerator(self) -> Body:
        kind = self.kind.accelerator or ""
        return {
            "acceleratorType": link(self.store.path(self.where, "acceleratorTypes", kind)),
            "acceleratorCount": self.kind.gpus,
        }

    def _check_accelerators(self) -> None:
        for i, given in enumerate(self.body.get("guestAccelerators", [])):
            own = (self.kind.accelerator, self.kind.gpus)
            if (last(given.get("acceleratorType", "")), given.get("acceleratorCount")) != own:
                raise rules.invalid(
                    f"resource.guestAccelerators[{i}].acceleratorType",
                    given.get("acceleratorType", ""),
                    f"The accelerator is not compatible with machine type '{self.kind.name}'.",
                )

    def _interfaces(self) -> list[Body]:
        given = self.body.get("networkInterfaces", [])
        if not given:
            raise rules.invalid(
                "resource.networkInterfaces", "", "At least one network interface is required."
            )
        return [self._interface(i, nic) for i, nic in enumerate(given)]

    def _interface(self, i: int, nic: Body) -> Body:
        field = f"resource.networkInterfaces[{i}]"
        subnet = self._subnet(nic, field)
        network = self.store.get(path_of(subnet["network"], self.project, ""))
        given = nic.get("accessConfigs", [])
        configs = [access_config(self.store, c, f"{field}.accessConfigs") for c in given]
        made = nic | {
            "kind": "compute#networkInterface",
            "name": f"nic{i}",
            "network": network["selfLink"],
            "subnetwork": subnet["selfLink"],
            "networkIP": nic.get("networkIP") or free_internal(self.store, subnet),
            "stackType": nic.get("stackType", "IPV4_ONLY"),
        }
        if configs:
            made["accessConfigs"] = configs
        made["fingerprint"] = fingerprint(made)
        return made

    def _subnet(self, nic: Body, field: str) -> Body:
        region = region_of(self.zone)
        where = f"regions/{region}/subnetworks"
        if nic.get("subnetwork"):
            subnet = self.store.referenced(nic["subnetwork"], f"{field}.subnetwork", where)
            if last(subnet["region"]) != region:
                raise rules.invalid(
                    f"{field}.subnetwork",
                    subnet["selfLink"],
                    f"Subnetwork must be in region '{region}' of the instance.",
                )
            return subnet
        path = path_of(nic.get("network") or "default", self.project, "global/networks")
        network = self.store.get(path)
        for subnet in self.store.all("subnetworks", f"regions/{region}"):
            if subnet["network"] == network["selfLink"] and network["autoCreateSubnetworks"]:
                return subnet
        raise rules.invalid(
            f"{field}.network",
            network["selfLink"],
            "A subnetwork must be specified for a network in custom subnet mode.",
        )

    def _plan_disks(self) -> None:
        """Every disk checked: (attachment, the new disk's fields or None for a present one)."""
        given = self.body.get("disks", [])
        if sum(1 for d in given if d.get("boot")) != 1 or not given[0].get("boot"):
            raise rules.invalid(
                "resource.disks", "", "Exactly one boot disk is required, as the first disk."
            )
        for i, disk in enumerate(given):
            field = f"resource.disks[{i}]"
            if disk.get("type") == "SCRATCH":
                self._disks.append((disk, None))
            elif disk.get("source"):
                self._disks.append((disk, self._present(disk, field)))
            else:
                self._disks.append((disk, self._planned(i, disk, field)))

    def _present(self, disk: Body, field: str) -> Body:
        where = f"{self.where}/disks"
        found = self.store.referenced(disk["source"], f"{field}.source", where)
        for user in found.get("users", []):
            holder = self.store.find(path_of(user, self.project, "instances"))
            if holder:
                raise in_use(found, holder)
        return found

    def _planned(self, i: int, disk: Body, field: str) -> Body:
        params = disk.get("initializeParams", {})
        at = f"{field}.initializeParams"
        image: Image | None = None
        if params.get("sourceImage"):
            image = resolve_image(params["sourceImage"], self.project, f"{at}.sourceImage")
        elif disk.get("boot"):
            raise rules.invalid(field, "", "Boot disk must have a source image or a source.")
        name = params.get("diskName") or (
            self.body["name"] if i == 0 else f"{self.body['name']}-{i}"
        )
        path = self.store.path(self.where, "disks", name)
        if self.store.find(path):
            raise ApiError(409, f"The resource '{path}' already exists")
        default = image.disk_gb if image else 500
        size_gb = int(params.get("diskSizeGb") or disk.get("diskSizeGb") or default)
        check_size(size_gb, image, f"{at}.diskSizeGb")
        check_labels(params.get("labels", {}), f"{at}.labels")
        kind = params.get("diskType") or self.kind.disks[0]
        kind_link = disk_type(kind, self.where, self.store, f"{at}.diskType")
        if disk.get("boot") and last(kind_link) not in self.kind.disks:
            raise ApiError(
                400,
                f"[{last(kind_link)}] features are not compatible for creating instance.",
            )
        fields = disk_fields(name, size_gb, kind_link, image)
        extra = ("provisionedIops", "provisionedThroughput", "labels")
        return fields | {k: params[k] for k in extra if k in params}

    def _attach(self, instance: Body, index: int, disk: Body, planned: Body | None) -> Body:
        attached: Body = {
            "kind": "compute#attachedDisk",
            "type": disk.get("type", "PERSISTENT"),
            "mode": disk.get("mode", "READ_WRITE"),
            "deviceName": disk.get("deviceName", f"persistent-disk-{index}"),
            "index": index,
            "boot": disk.get("boot", False),
            "autoDelete": disk.get("autoDelete", False),
            "interface": disk.get("interface", "SCSI"),
        }
        if planned is None:
            return attached | {
                "diskSizeGb": str(disk.get("diskSizeGb", "375")),
                "deviceName": disk.get("deviceName", f"local-ssd-{index}"),
            }
        resource = planned if "id" in planned else self._new_disk(planned)
        resource["users"] = [instance["selfLink"]]
        resource["lastAttachTimestamp"] = timestamp(self.store.world.clock())
        copied = ("guestOsFeatures", "architecture", "licenses")
        return (
            attached
            | {"source": resource["selfLink"], "diskSizeGb": resource["sizeGb"]}
            | {k: resource[k] for k in copied if k in resource}
        )

    def _new_disk(self, planned: Body) -> Body:
        labels = planned.pop("labels", {})
        disk = self.store.new(self.where, "disks", planned)
        give_labels(disk, labels)
        return disk


_DROPPED = ("labels", "disks", "params", "guestAccelerators", "serviceAccounts", "zone")


def access_config(store: Store, config: Body, field: str) -> Body:
    """An external address for an interface: a reserved one by value, or an ephemeral one."""
    address = config.get("natIP")
    if address and address not in {a["address"] for a in store.all("addresses")}:
        raise rules.invalid(
            f"{field}[0].natIP",
            address,
            "The specified external IP address was not found in the region.",
        )
    return config | {
        "kind": "compute#accessConfig",
        "type": config.get("type", "ONE_TO_ONE_NAT"),
        "name": config.get("name", "External NAT"),
        "natIP": address or free_external(store),
        "networkTier": config.get("networkTier", "PREMIUM"),
    }
