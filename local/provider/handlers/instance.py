"""compute.Instance: made in one call, watched until it runs, changed by one call a group of
properties."""

from __future__ import annotations

import time
from typing import Any

from .. import rest
from ..change import Change, plan
from ..client import ApiError, Call
from ..failures import FailedError, step
from ..operations import is_missing
from ..resource import Resource
from ..rest import Names
from ..same import last, relative
from ..values import Object
from . import instance_body as request
from . import instance_state as outputs
from .instance_update import Update

FIRST_LOOK_S = 5
LOOKS_S = (2, 4, 8, 10)  # then 10 s each
LOST_AFTER = 21  # looks that find nothing
RUNNING_WITHIN_S = 20 * 60  # the update timeout: customTimeouts.create does not count
AT_LEAST_S = 60.0  # of real time, however the waits are scaled
STOP_VERBS = {"TERMINATED": "stop", "SUSPENDED": "suspend"}
PUBLIC_IMAGES = {
    "cos": "cos-cloud",
    "debian": "debian-cloud",
    "rhel": "rhel-cloud",
    "ubuntu": "ubuntu-os-cloud",
    "windows": "windows-cloud",
}


class Instance(Resource):
    """A VM."""

    def names(self, values: Any) -> Names:
        names = super().names(values)
        names["region"] = names["zone"].rpartition("-")[0]
        return names

    def problems(self, inputs: Object, old: Object | None) -> list[str]:
        found = []
        for nic in inputs.get("networkInterfaces") or []:
            project, link = nic.get("subnetworkProject"), nic.get("subnetwork")
            if isinstance(project, str) and isinstance(link, str) and "projects/" in link:
                own = link.partition("projects/")[2].partition("/")[0]
                if own != project:
                    found.append(
                        f"project in subnetwork's self_link {own!r} must match "
                        f"subnetwork_project {project!r}"
                    )
        return found

    def must_replace(self, change: Change, inputs: Object, old: Object) -> bool:
        return True

    def _changes(self, inputs: Object, old: Object) -> list[Change]:
        return [
            change for change in super()._changes(inputs, old) if self._is_real(change, inputs, old)
        ]

    @staticmethod
    def _is_real(change: Change, inputs: Object, old: Object) -> bool:
        if change.path == "serviceAccount.scopes" and isinstance(change.new, list):
            return sorted(map(request.scope, map(str, change.new))) != sorted(change.old or [])
        if change.path == "serviceAccount.email" and not change.new:
            return False
        if change.path == "desiredStatus":
            return bool(change.new) and change.new != old.get("currentStatus")
        return change.path != "deletionPolicy" or bool(change.new)

    # Creation

    def insert(self, names: Names, inputs: Object) -> None:
        body = self.new_body(names, inputs)
        with step("Error creating instance"):
            answer = self.call("POST", self.path(names).rpartition("/")[0], body)
        with step("Error waiting for instance to create"):
            self.finish(answer, "zone", names)
        with step("Error waiting for status"):
            self._wait_for_running(names)
        if verb := STOP_VERBS.get(inputs.get("desiredStatus") or ""):
            with step(f"Error while {verb} of the instance"):
                self.finish(self.call("POST", f"{self.path(names)}/{verb}"), "zone", names)

    def new_body(self, names: Names, inputs: Object) -> Object:
        self._apply_checks(inputs)
        fields = self.table.fields
        body = super().new_body(names, inputs)
        boot = inputs["bootDisk"]
        image = self._image((boot.get("initializeParams") or {}).get("image"), names)
        nics = inputs["networkInterfaces"]
        body |= {
            "canIpForward": bool(inputs.get("canIpForward")),
            "deletionProtection": bool(inputs.get("deletionProtection")),
            "disks": [
                request.boot_disk(fields["bootDisk"], boot, names, image),
                *request.other_disks(inputs, names),
            ],
            "machineType": rest.link(fields["machineType"], inputs["machineType"], names),
            "metadata": request.metadata(
                inputs.get("metadata"), inputs.get("metadataStartupScript")
            ),
            "networkInterfaces": request.network_interfaces(
                fields["networkInterfaces"], nics, names
            ),
            "params": {},
            "scheduling": request.scheduling(inputs.get("scheduling")),
            "tags": {"items": inputs["tags"]} if inputs.get("tags") else {},
            "serviceAccounts": request.service_accounts(inputs.get("serviceAccount")),
            "reservationAffinity": request.reservation_affinity(inputs.get("reservationAffinity")),
        }
        if shielded := inputs.get("shieldedInstanceConfig"):
            body["shieldedInstanceConfig"] = {
                name: shielded.get(name, item.default)
                for name, item in fields["shieldedInstanceConfig"].children.items()
            }
        return request.without_none(body)

    @staticmethod
    def _apply_checks(inputs: Object) -> None:
        for nic in inputs["networkInterfaces"]:
            if not any(nic.get(key) for key in ("network", "subnetwork", "networkAttachment")):
                raise FailedError(
                    "Error creating instance: exactly one of network, subnetwork or "
                    "network_attachment must be provided"
                )
        script, in_metadata = inputs.get("metadataStartupScript"), inputs.get("metadata") or {}
        if script and in_metadata.get("startup-script", script) != script:
            raise FailedError(
                "Error creating metadata: Cannot provide both metadata_startup_script "
                "and metadata.startup-script."
            )
        affinity = inputs.get("reservationAffinity") or {}
        specific = affinity.get("type") == "SPECIFIC_RESERVATION"
        if affinity and specific != bool(affinity.get("specificReservation")):
            raise FailedError(
                "Error creating reservation affinity: specific_reservation must be set "
                "exactly for type SPECIFIC_RESERVATION"
            )

    def _image(self, name: str | None, names: Names) -> str | None:
        """A full path is sent as it is; a short name is looked up: as an image, then as a
        family."""
        if name is None or name.startswith(("projects/", "https://", "http://")):
            return name
        project, _, short = name.rpartition("/")
        if project in ("family", "global/images/family"):
            return self._found(names["project"], f"family/{short}") or self._no_image(name)
        if project == "global/images":
            project = ""
        stem = short.partition("-")[0]
        for owner in [project] if project else [names["project"], PUBLIC_IMAGES.get(stem, "")]:
            for path in (short, f"family/{short}"):
                if owner and (found := self._found(owner, path)):
                    return found
        return self._no_image(name)

    def _found(self, project: str, path: str) -> str | None:
        full = f"projects/{project}/global/images/{path}"
        with step("Error resolving image name"):
            try:
                self.client.call(Call("compute", "GET", full, library=True))
            except ApiError as error:
                if is_missing(error):
                    return None
                raise
        return full

    @staticmethod
    def _no_image(name: str) -> str:
        raise FailedError(
            f"Error resolving image name '{name}': Could not find image or family {name}"
        )

    def _wait_for_running(self, names: Names) -> None:
        """Look until the VM runs. What stopped meanwhile counts as pending, as in the real
        provider."""
        started, passed_s, lost, status = time.monotonic(), 0.0, 0, ""
        wait_s: float = FIRST_LOOK_S
        looks = iter(LOOKS_S)
        while passed_s < RUNNING_WITHIN_S or time.monotonic() - started < AT_LEAST_S:
            self.client.wait(wait_s)
            passed_s += wait_s
            wait_s = next(looks, LOOKS_S[-1])
            answer = self._look(names)
            if answer is None:
                lost += 1
                if lost == LOST_AFTER:
                    raise FailedError(
                        "Error waiting for status: Error waiting for instance to reach desired "
                        "status "
                        f"RUNNING: couldn't find resource ({LOST_AFTER} retries)"
                    )
                continue
            lost, status = 0, str(answer.get("status"))
            if status == "RUNNING":
                return
        raise FailedError(
            "Error waiting for status: Error waiting for instance to reach desired status RUNNING: "
            f"timeout while waiting for state to become 'RUNNING' (last state: "
            f"'{status}', timeout: 20m0s)"
        )

    def _look(self, names: Names) -> Object | None:
        try:
            return dict(self.call("GET", self.path(names), query={"view": "FULL"}))
        except ApiError as error:
            if is_missing(error):
                return None
            raise

    # Reading

    def fetch(self, names: Names, state: Object) -> Object | None:
        with step("Error when reading or editing Instance"):
            answer = self._look(names)
            if answer is None:
                return None
            return self.with_boot_disk(answer)

    def with_boot_disk(self, answer: Object) -> Object:
        """The instance with its boot disk's own resource beside it."""
        boot = next((disk for disk in answer["disks"] if disk.get("boot")), None)
        disk = self.call("GET", relative(boot["source"])) if boot else {}
        return {**answer, "bootDiskResource": disk}

    def state(self, answer: Object, given: Object, names: Names) -> Object:
        fields = self.table.fields
        state = super().state(answer, given, names)
        boot = next((disk for disk in answer["disks"] if disk.get("boot")), {})
        disk = answer["bootDiskResource"]
        nics = outputs.network_interfaces(
            state["networkInterfaces"], given.get("networkInterfaces")
        )
        state |= {
            **outputs.metadata(answer, given),
            "name": answer["name"],
            "bootDisk": outputs.boot_disk(boot, disk, given.get("bootDisk") or {}),
            "attachedDisks": given.get("attachedDisks") or [],
            "scratchDisks": outputs.scratch_disks(answer),
            "scheduling": outputs.scheduling(fields["scheduling"], answer, names),
            "serviceAccount": outputs.service_account(answer),
            "networkInterfaces": nics,
            "reservationAffinity": outputs.reservation_affinity(answer),
            "tags": rest.pick(answer, "tags.items") or [],
            "zone": last(answer["zone"]),
            "machineType": last(answer["machineType"]),
            "desiredStatus": answer["status"] if given.get("desiredStatus") else None,
            "allowStoppingForUpdate": given.get("allowStoppingForUpdate"),
        }
        return state

    # Changing and deleting

    def update(self, resource_id: str, inputs: Object, old: Object, found: list[Change]) -> Object:
        names = self.names_from(resource_id, old)
        with step(f"Error updating instance {resource_id}"):
            current = self._look(names)
            if current is None:
                raise FailedError(
                    f"Error updating instance {resource_id}: the instance was not found"
                )
            labels = self.labels_after(inputs, old)[1]
            wanted = plan(self.table.fields, inputs, old)
            Update(self, names, current, wanted).run(found, labels)
        return self.read_back(names, self.given_after(inputs, old))

    def remove(self, names: Names, old: Object) -> None:
        if old.get("deletionProtection"):
            raise FailedError(
                f"Cannot delete instance {names['name']}: instance Deletion Protection is enabled. "
                'Set deletion_protection to false for this resource and run "terraform apply" '
                "before attempting to delete it."
            )
        super().remove(names, old)

    def delete_error(self, text: str, names: Names) -> str:
        return f"Error deleting instance: {text}"
