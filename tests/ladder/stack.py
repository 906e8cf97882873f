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
PARENT = {"type": "mayfly:components:GpuNode", "urn": "urn:pulumi:dev::mayfly::GpuNode::node"}
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
        self.parents: list[dict[str, Any]] = []

    def set_config(self, stack: str, values: Mapping[str, str]) -> None:
        self.config.update(values)

    def resources(self, stack: str) -> list[dict[str, Any]]:
        kept = [{"type": INSTANCE_TYPE, "outputs": self.state}] if self.state else []
        return [*self.parents, *kept]

    def cut_off(self, stack: str) -> bool:
        return False

    def run(self, *words: str) -> None:
        """`destroy --refresh` of a VM that is gone: all that a launch here needs."""
        assert words[0] == "destroy", words
        assert self._there() is None
        self.state, self.parents = {}, []

    def adopt(self, stack: str, resource: Mapping[str, str]) -> bool:
        """`import`: the provider reads what is there."""
        assert resource["parent"] == PARENT["urn"]
        found, state, _ = self.provider.read(Request(urn=URN, resource_id=resource["id"]))
        self.state = plain(state)
        return bool(found)

    def up(self, stack: str, tell: Callable[[str], None]) -> tuple[int, str]:
        self.clock.sleep(UP_S)
        made = run_program(self.config, stack=stack, calls=layers.fresh(FOUNDATION))
        self.parents = [PARENT]  # components are in the state, whatever becomes of the VM
        inputs = json.loads(json.dumps(made.one("Instance").inputs))
        if self.state:
            assert self.state["zone"] == inputs["zone"], "an `up` that would replace the VM"
        else:
            failed = self._create(inputs)
            if failed:
                return 1, failed
        self.clock.sleep(START_S)
        if self._there():
            return 0, ""
        return 1, SAID.format("command:local:Command (readiness)", "the VM is gone")

    def _create(self, inputs: dict[str, Any]) -> str:
        """What the engine prints where it fails; "" where the VM is in the state."""
        checked = self.provider.check(Request(urn=URN, inputs=inputs, seed=b"seed"))
        assert not checked.failures, checked.failures
        try:
            _, state = self.provider.create(Request(urn=URN, inputs=checked.inputs))
        except RefusedError as error:
            return SAID.format("gcp:compute:Instance (node-vm)", error)
        self.state = plain(state)
        return ""

    def _there(self) -> dict[str, Any] | None:
        """The VM of the state, where it runs; not one that is being taken away."""
        found = self.world.of(Store).by_id("instances", str(self.state["instanceId"]))
        if found and self.world.of(Capacity).reclaimed(found):
            wait_until(lambda: found["status"] != "RUNNING", ENDS_WITHIN_S)
        return found if found and found["status"] == "RUNNING" else None
