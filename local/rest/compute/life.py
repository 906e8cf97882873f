"""What happens to instances in time: boot, stop, time limits, preemption, queues, guest halts.

Machines are slow and call back, so they are never booted or stopped under the world's lock; what
happens to one instance happens in order.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from local.rest.compute import rulebook
from local.rest.compute.capacity import Capacity
from local.rest.compute.links import last, path_of, timestamp
from local.rest.compute.operations import Operation, Operations
from local.rest.compute.rules import run_limit_s, value_of
from local.rest.compute.store import Store
from local.rest.compute.waiting import Waiting
from local.rest.fault_kinds import OperationError
from local.rest.machines import Machines

if TYPE_CHECKING:
    from local.rest.world import World

LOG = logging.getLogger("local.rest.compute")
ANSWER_WITHIN_S = 2.0
LOOK_EVERY_S = 0.5
ALIVE = ("PROVISIONING", "STAGING", "RUNNING")
BOOT_FAILED = OperationError(
    500,
    "INTERNAL SERVER ERROR",
    {
        "code": "INTERNAL_ERROR",
        "message": "Internal error. Please try again or contact Google Support.",
    },
)


class Life:
    """One per world. Wires the machines' callbacks when it is made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = world.of(Store)
        self.operations = world.of(Operations)
        self.attributes: dict[str, dict[str, str]] = defaultdict(dict)
        self._turns: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._deadlines: dict[str, float] = {}
        self._taken: set[str] = set()
        self._timer: threading.Thread | None = None
        self._closing = threading.Event()
        world.wire_machines(self._wire)
        world.on_close(self._closing.set)

    def _wire(self, machines: Machines) -> None:
        machines.guest_attributes = self.guest_wrote
        machines.powered_off = self.guest_halted
        machines.token = self.world.identity.mint
        machines.identity = self.world.identity.mint_id_token
        machines.permits = rulebook.of(self.world)

    def carry_out(self, operation: Operation, work: Callable[[], None]) -> dict[str, Any]:
        """Work outside the lock; the answer waits a little, so that it mostly says DONE."""
        thread = threading.Thread(target=self._work, args=(operation, work), daemon=True)
        thread.start()
        thread.join(ANSWER_WITHIN_S)
        with self.world.lock:
            return self.operations.shown(operation)

    def _work(self, operation: Operation, work: Callable[[], None]) -> None:
        try:
            if operation.error is None:
                work()
        except Exception:
            # The machine's own error: the operation must end, or its caller polls for ever.
            LOG.exception("%s failed", operation.resource["operationType"])
            operation.error = BOOT_FAILED
        with self.world.lock:
            self.operations.finish(operation)

    def boot(self, instance: dict[str, Any]) -> None:
        """PROVISIONING or STAGING -> RUNNING. A machine that cannot boot leaves no instance."""
        with self._turns[instance["id"]]:
            self._closing.wait(float(self.world.settings["boot_delay_s"]))
            if not self._set_status(instance, "STAGING", unless=("TERMINATED",)):
                return
            try:
                self.world.machines.boot(copy.deepcopy(instance))
            except Exception:
                with self.world.lock:
                    self.forget(instance)
                raise
            with self.world.lock:
                # A guest that halts at once has called back before boot returned.
                if instance["status"] == "STAGING":
                    instance["status"] = "RUNNING"
                    self.arm(instance)

    def _set_status(
        self, instance: dict[str, Any], status: str, *, unless: tuple[str, ...] = ()
    ) -> bool:
        with self.world.lock:
            here = self.store.by_id("instances", instance["id"]) is not None
            if not here or instance["status"] in unless:
                return False
            instance["status"] = status
            return True

    def stop(self, instance: dict[str, Any]) -> None:
        """-> STOPPING -> TERMINATED."""
        with self._turns[instance["id"]]:
            if not self._set_status(instance, "STOPPING", unless=("TERMINATED",)):
                return
            self.world.machines.stop(instance["id"])
            with self.world.lock:
                self._terminated(instance)

    def reset(self, instance: dict[str, Any]) -> None:
        """A hard restart; the status stays RUNNING. Nothing where a delete came first."""
        with self._turns[instance["id"]]:
            if not self._set_status(instance, "RUNNING", unless=("TERMINATED",)):
                return
            self.world.machines.stop(instance["id"])
            self.world.machines.boot(copy.deepcopy(instance))

    def destroy(self, instance: dict[str, Any]) -> None:
        """Stop and forget, with the disks that go with it."""
        with self._turns[instance["id"]]:
            if not self._set_status(instance, "STOPPING"):
                return
            self.world.machines.stop(instance["id"])
            self.world.machines.destroy(instance["id"])
            with self.world.lock:
                self.forget(instance)

    def changed(self, instance: dict[str, Any]) -> None:
        """Tell the machine that its instance's resource has changed; the lock is held."""
        if instance["status"] in ALIVE:
            self.world.machines.update(copy.deepcopy(instance))

    def forget(self, instance: dict[str, Any]) -> None:
        """Remove the resource and its auto-delete disks; the lock is held."""
        self._deadlines.pop(instance["id"], None)
        self.attributes.pop(instance["id"], None)
        self.store.remove(instance)
        for attached in instance["disks"]:
            disk = self.store.find(path_of(attached.get("source", ""), self.world.project, "x"))
            if disk is None:
                continue
            disk.pop("users", None)
            if attached["autoDelete"]:
                self.store.remove(disk)

    def _terminated(self, instance: dict[str, Any]) -> None:
        instance["status"] = "TERMINATED"
        instance["lastStopTimestamp"] = timestamp(self.world.clock())
        instance.pop("resourceStatus", None)
        self._deadlines.pop(instance["id"], None)

    # --- time limits -----------------------------------------------------------------------

    def arm(self, instance: dict[str, Any]) -> None:
        """Note the start, and when the instance's time is over; the lock is held."""
        now = self.world.clock()
        instance["lastStartTimestamp"] = timestamp(now)
        block = instance["scheduling"]
        limit_s, ends_at = run_limit_s(block), None
        if limit_s is not None:
            ends_at = now + limit_s
        elif "terminationTime" in block:
            ends_at = datetime.fromisoformat(block["terminationTime"]).timestamp()
        instance.pop("resourceStatus", None)
        self._keep_time()
        if ends_at is None:
            return
        instance["resourceStatus"] = {"scheduling": {"terminationTimestamp": timestamp(ends_at)}}
        self._deadlines[instance["id"]] = ends_at

    def _keep_time(self) -> None:
        if self._timer is None:
            self._timer = threading.Thread(target=self._watch, daemon=True)
            self._timer.start()

    def _watch(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            self.enforce()

    def enforce(self) -> None:
        """Do what the clock says: time limits, capacity that went, requests that waited for some.

        Called twice a second.
        """
        with self.world.lock:
            over, lost = self._over(), self._lost()
            boots, fails = self.world.of(Waiting).sort()
            for waiter in fails:
                self.forget(waiter.instance)
                self.world.of(Waiting).finish(waiter)
        for instance in over:
            self._end_by_system(instance, "")
        for instance in lost:
            self._take(instance)
        for waiter in boots:
            boot = partial(self.boot, waiter.instance)
            arguments = (waiter.operation, boot)
            threading.Thread(target=self._work, args=arguments, daemon=True).start()

    def _over(self) -> list[dict[str, Any]]:
        """Instances whose time is over, each once."""
        now = self.world.clock()
        over = [i for i, at in self._deadlines.items() if at <= now]
        for instance_id in over:
            del self._deadlines[instance_id]
        return [found for i in over if (found := self.store.by_id("instances", i))]

    def _lost(self) -> list[dict[str, Any]]:
        """SPOT instances whose room has gone, each once."""
        capacity = self.world.of(Capacity)
        if not any(row.reclaims for row in capacity.pattern.rows):
            return []
        running = (i for i in self.store.all("instances") if i["status"] == "RUNNING")
        lost = [i for i in running if i["id"] not in self._taken and capacity.reclaimed(i)]
        self._taken.update(i["id"] for i in lost)
        return lost

    def queue(self, instance: dict[str, Any], operation: Operation, wait_s: float) -> None:
        """Boot it once there is room for it, within wait_s; the lock is held."""
        self.world.of(Waiting).add(instance, operation, wait_s)
        self._keep_time()

    def _end_by_system(self, instance: dict[str, Any], kind: str) -> None:
        """By the instance's termination action, as an operation of the user "system"."""
        action = instance["scheduling"].get("instanceTerminationAction", "STOP")
        delete = action == "DELETE"
        where = "zones/" + last(instance["zone"])
        with self.world.lock:
            name = kind or ("delete" if delete else "stop")
            operation = self.operations.start(name, instance, where)
            if kind:
                operation.resource["statusMessage"] = "Instance was preempted."
        work = self.destroy if delete else self.stop
        threading.Thread(
            target=self._work, args=(operation, lambda: work(instance)), daemon=True
        ).start()

    def preempt(self, zone: str, name: str) -> dict[str, Any] | None:
        """Take a SPOT instance's capacity away; None when there is no such running instance."""
        with self.world.lock:
            instance = self.store.find(self.store.path(f"zones/{zone}", "instances", name))
            if instance is None or not instance["scheduling"].get("preemptible"):
                return None
            if instance["status"] != "RUNNING":
                return None
        self._take(instance)
        return instance

    def _take(self, instance: dict[str, Any]) -> None:
        self.world.machines.notice_preemption(instance["id"])
        self._end_by_system(instance, "compute.instances.preempted")

    # --- the machines' callbacks -----------------------------------------------------------

    def guest_wrote(self, instance_id: str, key: str, value: str | None) -> None:
        """A guest attribute ("ns/key"; None: deleted), if the instance's metadata allows them."""
        with self.world.lock:
            instance = self.store.by_id("instances", instance_id)
            if instance is None:
                return
            allowed = value_of(instance["metadata"], "enable-guest-attributes").upper() == "TRUE"
            if allowed and value is not None:
                self.attributes[instance_id][key] = value
            elif allowed:
                self.attributes[instance_id].pop(key, None)

    def guest_halted(self, instance_id: str) -> None:
        """The guest shut itself down: TERMINATED, and no time limit any more."""
        with self.world.lock:
            instance = self.store.by_id("instances", instance_id)
            if instance is None or instance["status"] not in ALIVE:
                return
            self._terminated(instance)
            operation = self.operations.start(
                "compute.instances.guestTerminate", instance, "zones/" + last(instance["zone"])
            )
            self.operations.finish(operation, message="Instance terminated by guest OS shutdown.")
            self.operations.shown(operation)
