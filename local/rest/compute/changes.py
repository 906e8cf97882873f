"""instances: every change in place, start and stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.rest.compute import rules
from local.rest.compute.birth import SHIELDED, access_config
from local.rest.compute.capacity import Refusal, shortage
from local.rest.compute.catalogue import offered
from local.rest.compute.instances import find
from local.rest.compute.labels import give_labels, wanted_labels
from local.rest.compute.life import Life
from local.rest.compute.links import last, link
from local.rest.compute.operations import Operations, at_once
from local.rest.compute.service import method, place
from local.rest.compute.store import Store
from local.rest.errors import ApiError
from local.rest.service import Call

Instance = dict[str, Any]
ONLY_STOPPED = ("preemptible", "provisioningModel", "maxRunDuration", "terminationTime")


def _kind(call: Call) -> str:
    return call.method_id.rpartition(".")[2]


def _applied(call: Call, instance: Instance, work: Callable[[], Any]) -> dict[str, Any]:
    """An operation that changes the instance at once; its metadata server hears of it."""

    def change() -> None:
        work()
        call.world.of(Life).changed(instance)

    return at_once(call, _kind(call), instance, change)


def _require_stopped(instance: Instance, what: str) -> None:
    if instance["status"] != "TERMINATED":
        raise ApiError(
            400,
            f"Invalid resource usage: '{what} can only be changed on a stopped instance.'.",
            reason="resourceInUse",
        )


@method("instances.setMetadata")
def set_metadata(call: Call) -> dict[str, Any]:
    """Replace the metadata, if the caller has seen the current one."""
    instance = find(call)
    if call.body.get("fingerprint") != instance["metadata"]["fingerprint"]:
        raise ApiError(412, "Supplied fingerprint does not match current metadata fingerprint.")
    block = rules.metadata(call.body, "metadata")
    return _applied(call, instance, lambda: instance.update(metadata=block))


@method("instances.setTags")
def set_tags(call: Call) -> dict[str, Any]:
    """Replace the network tags, if the caller has seen the current ones."""
    instance = find(call)
    if call.body.get("fingerprint") != instance["tags"]["fingerprint"]:
        raise ApiError(412, "Supplied fingerprint does not match current tags fingerprint.")
    block = rules.tags(call.body, "tags")
    return _applied(call, instance, lambda: instance.update(tags=block))


@method("instances.setLabels")
def label(call: Call) -> dict[str, Any]:
    """Replace the labels, if the caller has seen the current ones."""
    instance = find(call)
    labels = wanted_labels(call, instance)
    return at_once(call, _kind(call), instance, lambda: give_labels(instance, labels))


@method("instances.setScheduling")
def set_scheduling(call: Call) -> dict[str, Any]:
    """Change what may change while it runs; the rest wants it stopped."""
    instance = find(call)
    merged = instance["scheduling"] | call.body
    machine = offered(last(instance["machineType"]), last(instance["zone"]))
    if machine is None:
        raise LookupError(f"{instance['machineType']} left the catalogue")
    if instance["status"] != "TERMINATED":
        for name in ONLY_STOPPED:
            if merged.get(name) != instance["scheduling"].get(name):
                _require_stopped(instance, f"scheduling.{name}")
    block = rules.scheduling(merged, machine, "scheduling")
    return _applied(call, instance, lambda: instance.update(scheduling=block))


@method("instances.setMachineType")
def set_machine_type(call: Call) -> dict[str, Any]:
    """Another machine type, while stopped."""
    instance = find(call)
    _require_stopped(instance, "Machine type")
    zone = call["zone"]
    machine = rules.machine_type(
        call.body.get("machineType"), call.world.project, zone, "machineType"
    )
    path = call.world.of(Store).path(place(call), "machineTypes", machine.name)
    return _applied(call, instance, lambda: instance.update(machineType=link(path)))


@method("instances.setServiceAccount")
def set_service_account(call: Call) -> dict[str, Any]:
    """Another service account or other scopes, while stopped."""
    instance = find(call)
    _require_stopped(instance, "Service account")
    given = [call.body] if call.body.get("email") else []
    accounts = rules.service_accounts(given, call.world.project_number, "serviceAccount")
    for account in accounts:
        if not call.world.service_account_exists(account["email"]):
            raise ApiError(
                404, f"The resource '{account['email']}' of type 'serviceAccount' was not found."
            )

    def work() -> None:
        instance.pop("serviceAccounts", None)
        if accounts:
            instance["serviceAccounts"] = accounts

    return _applied(call, instance, work)


@method("instances.setDeletionProtection")
def set_deletion_protection(call: Call) -> dict[str, Any]:
    """Switch the guard against deletion; `resource` names the instance."""
    store = call.world.of(Store)
    instance = store.get(store.path(place(call), "instances", call["resource"]))
    on = call.query.get("deletionProtection", "true") == "true"
    return _applied(call, instance, lambda: instance.update(deletionProtection=on))


@method("instances.updateShieldedInstanceConfig")
def update_shielded(call: Call) -> dict[str, Any]:
    """Secure Boot, vTPM and integrity monitoring, while stopped."""
    instance = find(call)
    _require_stopped(instance, "Shielded instance config")
    block = SHIELDED | instance["shieldedInstanceConfig"] | call.body
    return _applied(call, instance, lambda: instance.update(shieldedInstanceConfig=block))


@method("instances.setDiskAutoDelete")
def set_disk_auto_delete(call: Call) -> dict[str, Any]:
    """Whether a disk goes with the instance."""
    instance = find(call)
    name = call.query["deviceName"]
    disk = next((d for d in instance["disks"] if d["deviceName"] == name), None)
    if disk is None:
        raise rules.invalid("deviceName", name, "No disk with that device name is attached.")
    on = call.query["autoDelete"] == "true"
    return _applied(call, instance, lambda: disk.update(autoDelete=on))


def _interface(call: Call, instance: Instance) -> dict[str, Any]:
    name = call.query["networkInterface"]
    for nic in instance["networkInterfaces"]:
        if nic["name"] == name:
            return nic  # type: ignore[no-any-return]
    raise rules.invalid("networkInterface", name, "There is no such network interface.")


@method("instances.addAccessConfig")
def add_access_config(call: Call) -> dict[str, Any]:
    """Give an interface an external address."""
    instance = find(call)
    nic = _interface(call, instance)
    if nic.get("accessConfigs"):
        raise ApiError(400, "At most one access config currently supported.", reason="invalid")
    config = access_config(call.world.of(Store), call.body, "accessConfigs")
    return _applied(call, instance, lambda: nic.update(accessConfigs=[config]))


@method("instances.deleteAccessConfig")
def delete_access_config(call: Call) -> dict[str, Any]:
    """Take an interface's external address away."""
    instance = find(call)
    nic = _interface(call, instance)
    name = call.query["accessConfig"]
    if name not in [c["name"] for c in nic.get("accessConfigs", [])]:
        raise rules.invalid("accessConfig", name, "There is no such access config.")
    return _applied(call, instance, lambda: nic.pop("accessConfigs"))


@method("instances.setSecurityPolicy")
def set_security_policy(call: Call) -> dict[str, Any]:
    """Only the empty policy: none can be made here."""
    instance = find(call)
    policy = call.body.get("securityPolicy")
    if policy:
        raise ApiError(404, f"The resource '{policy}' was not found")
    return at_once(call, _kind(call), instance)


def _slow(
    call: Call,
    allowed: tuple[str, ...],
    work: Callable[[Life, Instance], None],
    refuse: Callable[[Instance], Refusal | None] = lambda instance: None,
) -> Any:
    """An operation that the machine takes part in; `refuse` says why it fails."""
    life = call.world.of(Life)
    with call.world.lock:
        instance = find(call)
        if instance["status"] not in allowed:
            raise ApiError(
                400,
                f"Instance '{instance['name']}' is in status {instance['status']}: it cannot "
                f"{_kind(call)}.",
                reason="resourceNotReady",
            )
        refusal = refuse(instance)
        if isinstance(refusal, ApiError):
            raise refusal
        operation = call.world.of(Operations).begin(call, _kind(call), instance)
        operation.error = operation.error or refusal
    return life.carry_out(operation, lambda: work(life, instance))


@method("instances.stop", locked=False)
def stop(call: Call) -> Any:
    """Shut the guest down; a stopped instance stays stopped."""
    return _slow(call, ("RUNNING", "STAGING", "PROVISIONING", "TERMINATED"), Life.stop)


@method("instances.start", locked=False)
def start(call: Call) -> Any:
    """Boot a stopped instance; its time limit begins anew."""

    def work(life: Life, instance: Instance) -> None:
        with life.world.lock:
            if instance["status"] == "RUNNING":
                return
            instance["status"] = "STAGING"
        life.boot(instance)

    def refuse(instance: Instance) -> Refusal | None:
        if instance["status"] == "RUNNING":
            return None
        instance["status"] = "STAGING"  # so that it counts
        refusal = shortage(call.world, instance)
        instance["status"] = "TERMINATED"
        return refusal

    return _slow(call, ("TERMINATED", "RUNNING"), work, refuse)


@method("instances.reset", locked=False)
def reset(call: Call) -> Any:
    """A hard restart."""
    return _slow(call, ("RUNNING",), Life.reset)
