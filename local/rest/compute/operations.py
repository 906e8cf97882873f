"""Long-running operations: zone, region and global.

An operation is done as soon as its work is, unless the setting `operation_s` or a fault
("slow-operation") lets it run on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.rest.compute.links import link, timestamp
from local.rest.compute.listing import aggregated, listed
from local.rest.compute.service import method, place
from local.rest.errors import ApiError
from local.rest.fault_kinds import Effect, OperationError, scene
from local.rest.service import Call

if TYPE_CHECKING:
    from local.rest.world import World

KEPT = 5_000
WAIT_S = 120.0
SYSTEM = "system"


@dataclass
class Operation:
    """One operation: its REST resource, and when it may say DONE."""

    resource: dict[str, Any]
    place: str
    worked: bool = False
    worked_at: float = 0.0
    ready_at: float = 0.0
    polls: int = 0
    error: OperationError | None = None
    finished: threading.Event = field(default_factory=threading.Event)


class Operations:
    """The last 5 000 operations, oldest first. Callers hold the world's lock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, Operation] = {}
        self._by_request: dict[str, Operation] = {}
        self._count = 0

    def start(
        self, kind: str, target: dict[str, Any], where: str, *, user: str = SYSTEM
    ) -> Operation:
        """A new, running operation on `target`; where: "zones/z", "regions/r" or "global"."""
        self._count += 1
        now = self._world.clock()
        name = f"operation-{int(now * 1000)}-{self._count:013x}"
        path = f"projects/{self._world.project}/{where}/operations/{name}"
        resource = {
            "kind": "compute#operation",
            "id": self._world.new_id(),
            "name": name,
            "operationType": kind,
            "targetLink": target["selfLink"],
            "targetId": target["id"],
            "status": "RUNNING",
            "user": user,
            "progress": 0,
            "insertTime": timestamp(now),
            "startTime": timestamp(now),
            "selfLink": link(path),
        }
        scope, _, value = where.partition("/")
        if value:
            resource[scope.removesuffix("s")] = link(f"projects/{self._world.project}/{where}")
        operation = Operation(resource, where)
        operation.ready_at = now + float(self._world.settings["operation_s"])
        self._kept[name] = operation
        while len(self._kept) > KEPT:
            self._kept.pop(next(iter(self._kept)))
        return operation

    def begin(self, call: Call, kind: str, target: dict[str, Any]) -> Operation:
        """`start` for a caller's request, with the fault that was ordered for it."""
        operation = self.start(kind, target, place(call), user=call.principal.email)
        fault = call.fault
        if fault and fault.recipe.effect is Effect.SLOW:
            operation.polls = int(fault.options["polls"])
            operation.ready_at += float(fault.options["seconds"])
        if fault and fault.recipe.effect in (Effect.OPERATION, Effect.OPERATION_AFTER):
            where = scene(self._world.project, call.params, call.raw_body)
            operation.error = fault.recipe.build(where, fault.options)
        if call.query.get("requestId"):
            self._by_request[_request_key(call)] = operation
        return operation

    def repeated(self, call: Call) -> Operation | None:
        """The operation that a request with the same requestId has started."""
        return self._by_request.get(_request_key(call)) if call.query.get("requestId") else None

    def finish(self, operation: Operation, *, message: str = "") -> None:
        """The work is done: DONE from now on, or once its time has come."""
        if message:
            operation.resource["statusMessage"] = message
        operation.worked, operation.worked_at = True, self._world.clock()

    def shown(self, operation: Operation, *, polled: bool = False) -> dict[str, Any]:
        """The REST resource as of now."""
        if operation.resource["status"] != "DONE" and self._may_end(operation, polled):
            self._end(operation)
        return dict(operation.resource)

    def _may_end(self, operation: Operation, polled: bool) -> bool:
        if polled and operation.polls > 0:
            operation.polls -= 1
            operation.ready_at = max(operation.ready_at, self._world.clock())
            return False
        ready = operation.polls == 0 and operation.ready_at <= self._world.clock()
        return operation.worked and ready

    def _end(self, operation: Operation) -> None:
        resource = operation.resource
        resource |= {
            "status": "DONE",
            "progress": 100,
            # Not when somebody looks: whoever reads the log later must see what came first.
            "endTime": timestamp(max(operation.worked_at, operation.ready_at)),
        }
        if operation.error:
            resource["error"] = {"errors": [operation.error.entry]}
            resource["httpErrorStatusCode"] = operation.error.status
            resource["httpErrorMessage"] = operation.error.status_words
        operation.finished.set()

    def get(self, name: str, where: str) -> Operation:
        """The operation called `name` (or with that id) there; Google's 404 without one."""
        for operation in self._kept.values():
            named = name in (operation.resource["name"], operation.resource["id"])
            if named and operation.place == where:
                return operation
        path = f"projects/{self._world.project}/{where}/operations/{name}"
        raise ApiError(404, f"The resource '{path}' was not found")

    def all(self, where: str | None = None) -> list[dict[str, Any]]:
        """Operations as of now, newest first as Google lists them."""
        found = [o for o in self._kept.values() if where in (None, o.place)]
        return [self.shown(o) for o in reversed(found)]

    def remove(self, operation: Operation) -> None:
        self._kept.pop(operation.resource["name"], None)


def _request_key(call: Call) -> str:
    return f"{call.method_id} {call.query['requestId']}"


def at_once(
    call: Call, kind: str, target: dict[str, Any], work: Callable[[], None] | None = None
) -> dict[str, Any]:
    """An operation whose work takes no time; a fault for it leaves the work undone."""
    operations = call.world.of(Operations)
    operation = operations.begin(call, kind, target)
    if work and operation.error is None:
        work()
    operations.finish(operation)
    return operations.shown(operation)


@method("zoneOperations.get", "regionOperations.get", "globalOperations.get")
def get(call: Call) -> dict[str, Any]:
    """One look; counts as a poll."""
    operations = call.world.of(Operations)
    return operations.shown(operations.get(call["operation"], place(call)), polled=True)


@method("zoneOperations.wait", "regionOperations.wait", "globalOperations.wait", locked=False)
def wait(call: Call) -> dict[str, Any]:
    """Until it is DONE, 2 minutes at most."""
    operations = call.world.of(Operations)
    deadline = time.monotonic() + WAIT_S
    while True:
        with call.world.lock:
            operation = operations.get(call["operation"], place(call))
            answer = operations.shown(operation, polled=True)
        if answer["status"] == "DONE" or time.monotonic() >= deadline:
            return answer
        operation.finished.wait(0.05)


@method("zoneOperations.list", "regionOperations.list", "globalOperations.list")
def list_operations(call: Call) -> dict[str, Any]:
    """A scope's operations."""
    where = place(call)
    found = call.world.of(Operations).all(where)
    path = f"projects/{call.world.project}/{where}/operations"
    return listed(call, "compute#operationList", path, found)


@method("globalOperations.aggregatedList")
def aggregated_list(call: Call) -> dict[str, Any]:
    """All operations by scope."""
    found = call.world.of(Operations).all()
    return aggregated(call, "compute#operationAggregatedList", "operations", found)


@method("zoneOperations.delete", "regionOperations.delete", "globalOperations.delete")
def delete(call: Call) -> None:
    """Forget an operation."""
    operations = call.world.of(Operations)
    operations.remove(operations.get(call["operation"], place(call)))
