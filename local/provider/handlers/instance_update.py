"""Changes of a running instance: each group of properties has its call, in the real provider's
order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..change import Change
from ..client import Call
from ..failures import FailedError
from ..rest import Names
from ..same import relative
from ..values import Object
from . import instance_body as request

if TYPE_CHECKING:
    from .instance import Instance

NEEDS_A_STOP = (
    "Changing the machine_type, min_cpu_platform, service_account, "
    "enable_display, shielded_instance_config, "
    "scheduling.node_affinities, scheduling.max_run_duration or "
    "network_interface.[#d].(network/subnetwork/subnetwork_project) or "
    "advanced_machine_features on a started "
    "instance requires stopping it. To acknowledge this, please set "
    "allow_stopping_for_update = true in your "
    "config. You can also stop it by setting desired_status = "
    '"TERMINATED", but the instance will not be '
    "restarted after the update."
)
KNOWN_CALLS = frozenset(
    {
        "", "none", "setMetadata", "setLabels", "setTags", "setScheduling", "resize",
        "deleteAccessConfig+addAccessConfig", "setDiskAutoDelete", "setDeletionProtection",
        "setMachineType", "setServiceAccount", "updateShieldedInstanceConfig", "setMinCpuPlatform",
        "updateDisplayDevice", "start|stop|suspend|resume",
    }
)  # fmt: skip
STOPPED = ("TERMINATED", "SUSPENDED")


class Update:
    """One update of one instance. `current` is the instance as read just before."""

    def __init__(self, instance: Instance, names: Names, current: Object, wanted: Object) -> None:
        self.instance, self.names = instance, names
        self.current, self.wanted = current, wanted
        self.path = instance.path(names)

    def run(self, found: list[Change], labels: Object) -> None:
        """Make the calls that the changes need; refuse those that need a stop nobody allowed."""
        calls = {change.field.call for change in found}
        if unknown := calls - KNOWN_CALLS:
            raise FailedError(
                f"the stand-in does not know how to change this in place: {sorted(unknown)}"
            )
        if "setMetadata" in calls:
            self._set_metadata()
        if "setLabels" in calls and any(change.top == "labels" for change in found):
            fingerprint = self.current.get("labelFingerprint")
            self._post("setLabels", {"labelFingerprint": fingerprint, "labels": labels})
        if "setTags" in calls:
            self._set_tags()
        if "setScheduling" in calls and not any(
            c.field.stop for c in found if c.top == "scheduling"
        ):
            self._post("setScheduling", request.scheduling(self.wanted.get("scheduling")))
        self._network(found)
        self._boot_disk(found, calls)
        if self._access_configs(found):
            nics = [nic["name"] for nic in self.current["networkInterfaces"]]
            self._post("setSecurityPolicy", {"networkInterfaces": nics})
        if "setDeletionProtection" in calls:
            protect = str(bool(self.wanted.get("deletionProtection"))).lower()
            self._post("setDeletionProtection", None, deletionProtection=protect)
        self._stopped(found)
        if "start|stop|suspend|resume" in calls:
            self._to_status(str(self.wanted["desiredStatus"]))

    def _post(self, verb: str, body: Any, **query: str) -> None:
        answer = self.instance.call("POST", f"{self.path}/{verb}", body, query=query)
        self.instance.finish(answer, "zone", self.names)

    def _set_metadata(self) -> None:
        fresh = self.instance.call("GET", self.path)
        script = self.wanted.get("metadataStartupScript")
        body = request.metadata(self.wanted.get("metadata"), script)
        self._post("setMetadata", {"fingerprint": fresh["metadata"].get("fingerprint"), **body})

    def _set_tags(self) -> None:
        fingerprint = self.current["tags"].get("fingerprint")
        items = self.wanted.get("tags") or []
        self._post("setTags", {"fingerprint": fingerprint, **({"items": items} if items else {})})

    @staticmethod
    def _access_configs(found: list[Change]) -> list[Change]:
        return [c for c in found if c.field.call == "deleteAccessConfig+addAccessConfig"]

    def _network(self, found: list[Change]) -> None:
        indexes = {
            int(c.path.partition("[")[2].partition("]")[0]) for c in self._access_configs(found)
        }
        for index in sorted(indexes):
            nic = self.current["networkInterfaces"][index]
            for config in nic.get("accessConfigs", []):
                query = {"accessConfig": config["name"], "networkInterface": nic["name"]}
                self._post("deleteAccessConfig", None, **query)
            for config in self.wanted["networkInterfaces"][index].get("accessConfigs") or []:
                body = request.access_config(config)
                self._post("addAccessConfig", body, networkInterface=nic["name"])

    def _boot_disk(self, found: list[Change], calls: set[str]) -> None:
        boot: Object = next(disk for disk in self.current["disks"] if disk.get("boot"))
        if "setDiskAutoDelete" in calls:
            keep = str(bool(self.wanted["bootDisk"].get("autoDelete"))).lower()
            self._post("setDiskAutoDelete", None, autoDelete=keep, deviceName=boot["deviceName"])
        if "resize" not in calls and not any(c.plain_path.endswith("Params.labels") for c in found):
            return
        self.instance.call("GET", self.path)
        disk_path = relative(boot["source"])
        disk = self.instance.call("GET", disk_path)
        parameters = self.wanted["bootDisk"]["initializeParams"]
        if "resize" in calls:
            self._disk_post(f"{disk_path}/resize", {"sizeGb": parameters["size"]})
        if any(c.plain_path.endswith("Params.labels") for c in found):
            body = {
                "labelFingerprint": disk.get("labelFingerprint"),
                "labels": parameters["labels"],
            }
            self._disk_post(f"{disk_path}/setLabels", body)

    def _disk_post(self, path: str, body: Object) -> None:
        answer = self.instance.client.call(Call("compute", "POST", path, body=body))
        self.instance.finish(answer, "zone", self.names)

    def _stopped(self, found: list[Change]) -> None:
        """Changes that only a stopped instance takes."""
        needing = [change for change in found if change.field.stop]
        if not needing:
            return
        running = self.current.get("status") not in STOPPED
        if running and not self._may_stop():
            raise FailedError(NEEDS_A_STOP)
        if running:
            self._post("stop", None)
        tops = {change.top for change in needing}
        for top, (verb, body) in self._stopped_calls().items():
            if top in tops:
                method = "PATCH" if top == "shieldedInstanceConfig" else "POST"
                answer = self.instance.call(method, f"{self.path}/{verb}", body)
                self.instance.finish(answer, "zone", self.names)
        if "scheduling" in tops:
            self._post("setScheduling", request.scheduling(self.wanted.get("scheduling")))
        if running and self.wanted.get("desiredStatus") not in STOPPED:
            self._post("start", None)

    def _may_stop(self) -> bool:
        wanted = self.wanted
        return (
            bool(wanted.get("allowStoppingForUpdate"))
            or wanted.get("desiredStatus") == "TERMINATED"
        )

    def _stopped_calls(self) -> dict[str, tuple[str, Any]]:
        wanted, zone = self.wanted, f"projects/{self.names['project']}/zones/{self.names['zone']}"
        accounts = request.service_accounts(wanted.get("serviceAccount")) or [{}]
        machine = str(wanted["machineType"]).rpartition("/")[2]
        return {
            "machineType": ("setMachineType", {"machineType": f"{zone}/machineTypes/{machine}"}),
            "minCpuPlatform": (
                "setMinCpuPlatform",
                {"minCpuPlatform": wanted.get("minCpuPlatform") or ""},
            ),
            "serviceAccount": ("setServiceAccount", accounts[0]),
            "enableDisplay": (
                "updateDisplayDevice",
                {"enableDisplay": bool(wanted.get("enableDisplay"))},
            ),
            "shieldedInstanceConfig": (
                "updateShieldedInstanceConfig",
                wanted.get("shieldedInstanceConfig"),
            ),
        }

    def _to_status(self, status: str) -> None:
        verb = {"RUNNING": "start", "TERMINATED": "stop", "SUSPENDED": "suspend"}[status]
        if status == "RUNNING" and self.current.get("status") == "SUSPENDED":
            verb = "resume"
        self._post(verb, None)
