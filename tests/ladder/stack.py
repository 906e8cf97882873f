"""A session's stack without the engine's process: the real program, the provider, the real calls.

What `pulumi up` does in half a minute takes a few milliseconds here: the program runs on the
recording engine of tests/components, the provider's stand-in makes the VM by the same calls as
ever, and all that either waits for passes on the local cloud's clock.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from local.provider.google import Google
from local.provider.log import Log
from local.provider.messages import RefusedError, Request, Urn
from local.provider.values import plain
from local.rest.compute.capacity import Capacity
from local.rest.compute.life import Life
from local.rest.compute.store import Store
from local.rest.iam import Accounts
from local.rest.world import World
from mayfly.machines import REGIONS
from mayfly.names import INSTANCE_TYPE
from tests.components import layers
from tests.components.mocks import PROJECT, run_program
from tests.waiting import wait_until

UP_S, START_S = 30.0, 120.0
"""The engine's own time, and a VM's from running to serving."""
ENDS_WITHIN_S = 60.0
URN = Urn(f"urn:pulumi:dev::mayfly::{INSTANCE_TYPE}::node-vm")
SUBNET = (
    f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/regions/{{}}/subnetworks/default"
)
FOUNDATION = layers.FOUNDATION | {"subnets": {r: SUBNET.format(r) for r in REGIONS}}
SAID = "Diagnostics:\n  {}:\n    error: {}\n"


class Clock:
    """The local cloud's time, and the walk's: it moves when somebody waits."""

    def __init__(self, began: float) -> None:
        self.began = self.at = began
        self.moved: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.at

    def now_s(self) -> float:
        return self.at - self.began

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.moved()


class Stack:
    """What `mayfly.launch.Launch` asks of the engine, for one session."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world, self.clock = world, clock
        world.of(Accounts).add(str(FOUNDATION["node_email"]), {})
        clock.moved = world.of(Life).enforce
        self.provider = Google(Log(None), sleep=clock.sleep)
        self.provider.configure({"pollInterval": "1s"})
        self.config: dict[str, str] = {"gcp:project": PROJECT}
        self.state: dict[str, Any] = {}

    def set_config(self, stack: str, values: Mapping[str, str]) -> None:
        self.config.update(values)

    def resources(self, stack: str) -> list[dict[str, Any]]:
        return [{"type": INSTANCE_TYPE, "outputs": self.state}] if self.state else []

    def cut_off(self, stack: str) -> bool:
        return False

    def run(self, *words: str) -> None:
        """`destroy --refresh`, the only one that a launch here needs."""
        assert words[0] == "destroy", words
        found = self._there()
        if found:
            self.provider.delete(Request(urn=URN, resource_id=self.state["id"], old=self.state))
        self.state = {}

    def up(self, stack: str, tell: Callable[[str], None]) -> tuple[int, str]:
        assert not self.state, "another VM on top of one that is in the state"
        self.clock.sleep(UP_S)
        made = run_program(self.config, stack=stack, calls=layers.fresh(FOUNDATION))
        inputs = json.loads(json.dumps(made.one("Instance").inputs))
        checked = self.provider.check(Request(urn=URN, inputs=inputs, seed=b"seed"))
        assert not checked.failures, checked.failures
        try:
            _, state = self.provider.create(Request(urn=URN, inputs=checked.inputs))
        except RefusedError as error:
            return 1, SAID.format("gcp:compute:Instance (node-vm)", error)
        self.state = plain(state)
        self.clock.sleep(START_S)
        if self._there():
            return 0, ""
        return 1, SAID.format("command:local:Command (readiness)", "the VM is gone")

    def _there(self) -> dict[str, Any] | None:
        """The VM of the state, where it runs; not one that is being taken away."""
        found = self.world.of(Store).by_id("instances", str(self.state["instanceId"]))
        if found and self.world.of(Capacity).reclaimed(found):
            wait_until(lambda: found["status"] != "RUNNING", ENDS_WITHIN_S)
        return found if found and found["status"] == "RUNNING" else None
