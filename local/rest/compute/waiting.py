"""FLEX_START requests that wait for capacity: PENDING, with an operation that runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.rest.compute.capacity import Capacity, shortage
from local.rest.compute.operations import Operation, Operations
from local.rest.compute.store import Store
from local.rest.errors import ApiError
from local.rest.fault_kinds import OperationError

if TYPE_CHECKING:
    from local.rest.world import World

CANCELED = OperationError(
    409,
    "CONFLICT",
    {"code": "OPERATION_CANCELED_BY_USER", "message": "Operation was canceled by user ''."},
)


@dataclass(frozen=True)
class Waiter:
    """One request. until: Unix seconds of the cloud's clock."""

    instance: dict[str, Any]
    operation: Operation
    until: float


class Waiting:
    """One per world. Callers hold its lock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._waiters: list[Waiter] = []

    def add(self, instance: dict[str, Any], operation: Operation, wait_s: float) -> None:
        instance["status"] = "PENDING"
        self._waiters.append(Waiter(instance, operation, self.world.clock() + wait_s))

    def sort(self) -> tuple[list[Waiter], list[Waiter]]:
        """Those whose wait is over, out of the queue: (to be booted, failed: `error` says why)."""
        boots: list[Waiter] = []
        fails: list[Waiter] = []
        for waiter in list(self._waiters):
            if self._over(waiter):
                self._waiters.remove(waiter)
                (fails if waiter.operation.error else boots).append(waiter)
        return boots, fails

    def _over(self, waiter: Waiter) -> bool:
        instance, operation = waiter.instance, waiter.operation
        if self.world.of(Store).by_id("instances", instance["id"]) is None:
            operation.error = CANCELED
            return True
        if not self.world.of(Capacity).fits(instance) and self.world.clock() < waiter.until:
            return False
        instance["status"] = "PROVISIONING"  # from here on it counts against the quota
        refusal = shortage(self.world, instance)
        operation.error = _as_operation(refusal) if refusal else None
        return True

    def finish(self, waiter: Waiter) -> None:
        """End the operation of a request that came to nothing."""
        self.world.of(Operations).finish(waiter.operation)


def _as_operation(refusal: OperationError | ApiError) -> OperationError:
    """The call was answered long ago: now only the operation can say it."""
    if isinstance(refusal, OperationError):
        return refusal
    code = "QUOTA_EXCEEDED" if refusal.status == 403 else "ZONE_RESOURCE_POOL_EXHAUSTED"
    return OperationError(refusal.status, "", {"code": code, "message": str(refusal)})
