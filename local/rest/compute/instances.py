"""instances: insert, read, delete, and what the guest says."""

from __future__ import annotations

from typing import Any

from local.rest.compute import rules
from local.rest.compute.birth import Birth
from local.rest.compute.capacity import Capacity, Refusal, shortage
from local.rest.compute.life import Life
from local.rest.compute.links import link
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.operations import Operation, Operations
from local.rest.compute.service import method, place
from local.rest.compute.store import Store
from local.rest.errors import ApiError
from local.rest.fault_kinds import Effect, OperationError
from local.rest.service import Call

SERIAL_PORTS = ("1", "2", "3", "4")


def find(call: Call) -> dict[str, Any]:
    """The instance that the call names, by name or numeric id."""
    store = call.world.of(Store)
    return store.get(store.path(place(call), "instances", call["instance"]))


@method("instances.insert", locked=False)
def insert(call: Call) -> dict[str, Any]:
    """Make an instance and boot it, or put it into the queue for capacity."""
    life, operations = call.world.of(Life), call.world.of(Operations)
    wait_s = rules.capacity_wait_s(call.body, "resource.params")
    with call.world.lock:
        before = operations.repeated(call)
        if before:
            return operations.shown(before)
        instance = Birth(call.world.of(Store), call["zone"], call.body).make()
        queued = wait_s > 0 and not call.world.of(Capacity).fits(instance)
        refusal = _account_missing(call, instance)
        if not queued and not refusal:
            refusal = shortage(call.world, instance)
        if isinstance(refusal, ApiError):
            life.forget(instance)
            raise refusal
        operation = operations.begin(call, "insert", instance)
        operation.error = operation.error or refusal
        if operation.error:
            _fail(call, instance, operation, slow=refusal is not None)
        elif queued:
            life.queue(instance, operation, wait_s)
            return operations.shown(operation)
    return life.carry_out(operation, lambda: life.boot(instance))


def _fail(call: Call, instance: dict[str, Any], operation: Operation, *, slow: bool) -> None:
    """Leave nothing of it, or what the fault says that stays."""
    if slow:
        operation.ready_at += call.world.of(Capacity).row_of(instance).after_s
    if call.fault and call.fault.recipe.effect is Effect.OPERATION_AFTER:
        instance["status"] = "TERMINATED"
    else:
        call.world.of(Life).forget(instance)


def _account_missing(call: Call, instance: dict[str, Any]) -> Refusal | None:
    for account in instance.get("serviceAccounts", []):
        if not call.world.service_account_exists(account["email"]):
            text = f"The resource '{account['email']}' of type 'serviceAccount' was not found."
            entry = {"code": "EXTERNAL_RESOURCE_NOT_FOUND", "message": text}
            return OperationError(404, "NOT FOUND", entry)
    return None


@method("instances.get")
def get(call: Call) -> dict[str, Any]:
    """An instance."""
    instance = find(call)
    fault = call.fault
    if fault and fault.recipe.effect is Effect.STATUS:
        return instance | {"status": fault.options["status"]}
    return instance


@method("instances.list")
def list_instances(call: Call) -> dict[str, Any]:
    """A zone's instances."""
    found = call.world.of(Store).all("instances", place(call))
    path = f"projects/{call.world.project}/{place(call)}/instances"
    return listed(call, "compute#instanceList", path, found)


@method("instances.aggregatedList")
def aggregated_list(call: Call) -> dict[str, Any]:
    """All instances by zone."""
    found = call.world.of(Store).all("instances")
    return aggregated(call, "compute#instanceAggregatedList", "instances", found)


@method("instances.delete", locked=False)
def delete(call: Call) -> dict[str, Any]:
    """Stop an instance and remove it with its auto-delete disks."""
    life = call.world.of(Life)
    with call.world.lock:
        instance = find(call)
        if instance["deletionProtection"]:
            raise ApiError(
                400,
                "Invalid resource usage: 'Resource cannot be deleted if it's protected against "
                "deletion.'.",
                reason="invalidResourceUsage",
            )
        operation: Operation = call.world.of(Operations).begin(call, "delete", instance)
    return life.carry_out(operation, lambda: life.destroy(instance))


@method("instances.getSerialPortOutput", locked=False)
def serial(call: Call) -> dict[str, Any]:
    """What the guest wrote to a serial port, from byte `start`."""
    with call.world.lock:
        instance = find(call)
    port = call.query.get("port") or "1"
    if port not in SERIAL_PORTS:
        raise rules.invalid("port", port, "Values must be within the range: [1, 4]")
    text = call.world.machines.serial(instance["id"]) if port == "1" else ""
    contents = text.encode()
    start = int(call.query.get("start") or 0)
    if start < 0:
        start = max(0, len(contents) + start)
    return {
        "kind": "compute#serialPortOutput",
        "selfLink": instance["selfLink"] + "/serialPort",
        "contents": contents[start:].decode(errors="replace"),
        "start": str(min(start, len(contents))),
        "next": str(len(contents)),
    }


@method("instances.getGuestAttributes")
def guest_attributes(call: Call) -> dict[str, Any]:
    """What the guest wrote, by `queryPath` ("ns/") or `variableKey` ("ns/key")."""
    instance = find(call)
    written = call.world.of(Life).attributes.get(instance["id"], {})
    answer = {
        "kind": "compute#guestAttributes",
        "selfLink": link(
            call.world.of(Store).path(place(call), "instances", instance["name"])
            + "/getGuestAttributes"
        ),
    }
    key = call.query.get("variableKey")
    if key:
        if key not in written:
            raise _no_attribute(key)
        return answer | {"variableKey": key, "variableValue": written[key]}
    query = call.query.get("queryPath", "")
    found = {k: v for k, v in written.items() if k == query or k.startswith(_prefix(query))}
    if not found:
        raise _no_attribute(query)
    items = [
        {"namespace": k.partition("/")[0], "key": k.partition("/")[2], "value": v}
        for k, v in sorted(found.items())
    ]
    return answer | {"queryPath": query, "queryValue": {"items": items}}


def _prefix(query: str) -> str:
    return query if not query or query.endswith("/") else query + "/"


def _no_attribute(name: str) -> ApiError:
    return ApiError(404, f"The resource '{name}' of type 'Guest Attribute' was not found.")
