"""Every pattern of capacity that comes with the local cloud: a VM wherever there is one, else why.

The walk, the launch, the program, the provider's stand-in and every call are the real ones; only
the engine's process and the machines are not there, and time passes on the cloud's clock.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from local.exports import endpoints
from local.rest import pattern
from local.rest.app import create_app
from local.rest.compute.capacity import Capacity
from local.rest.compute.life import Life
from local.rest.compute.store import Store
from local.rest.machines import NoMachines
from local.rest.world import World
from local.servers import Door, Server
from mayfly import profile
from mayfly.cloud import connect
from mayfly.errors import FailedError, RefusedError
from mayfly.ladder.climb import climb
from mayfly.ladder.lives import Grant
from mayfly.ladder.rungs import Question, rungs
from mayfly.ladder.walk import Attempt, Ladder
from mayfly.launch import Launch
from mayfly.machines import REGIONS
from tests.components.layers import FOUNDATION
from tests.components.mocks import PROJECT
from tests.ladder.stack import Clock, Stack
from tests.waiting import wait_until

AMPERE = "a2-ultragpu-8g"
SPOT = ("spot",)
ANY = ("spot", "flex-start", "on-demand")
HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked for, and how it must end.

    lands: the zones that are asked, the last of which has the VM; where it goes on for long, that
    one alone. model: the VM's. says: words of the attempts. stops: words of the message; refused:
    exit code 3. attempts: how many there are before it; 0 is any number.
    """

    name: str
    lands: Sequence[str] = ()
    model: str = "SPOT"
    says: str = ""
    stops: Sequence[str] = ()
    refused: bool = True
    attempts: int = 0
    models: Sequence[str] = SPOT
    retry_for_s: float = 0.0

    @property
    def title(self) -> str:
        how = "stops" if self.stops else "lands"
        return f"{self.name}-{how}" + ("-in-time" if self.retry_for_s and not self.stops else "")


C1A, C1C, E5A, E5B, E4C, W4A = (
    *("us-central1-a", "us-central1-c", "us-east5-a", "us-east5-b"),
    *("us-east4-c", "europe-west4-a"),
)
EVERY_ZONE = (C1A, C1C, E5A, E5B, E4C, W4A)
RETRY = ("6 places were asked", "No VM was made; nothing is billed.", "--retry-for 2h")
CASES = (
    Case(name="first-zone-out", lands=(C1A, C1C)),
    Case(name="third-region-only", lands=(C1A, C1C, E5A, E5B, E4C)),
    Case(name="zones-available", lands=(C1A, E4C)),
    Case(name="wrong-hint", lands=(C1A, E4C, C1C)),
    Case(name="after-twenty-minutes", stops=RETRY),
    Case(name="after-twenty-minutes", lands=(C1A,), retry_for_s=HOUR_S),
    Case(name="comes-and-goes", lands=(E5A,), retry_for_s=HOUR_S),
    Case(name="best-region-without-quota", lands=(C1A, E5A), says="region's quota is used up"),
    Case(name="quota-said-by-403", lands=(C1A, E5A), says="region's quota is used up"),
    Case(
        name="no-quota-anywhere",
        stops=("region's quota is used up", "Waiting does not help", "mayfly quota check"),
        attempts=4,
        retry_for_s=HOUR_S,
    ),
    Case(
        name="global-quota-of-seven",
        stops=("limit over all regions", "mayfly quota request", "GPUS_ALL_REGIONS"),
        attempts=1,
    ),
    Case(name="flex-start-only", lands=(C1A,), models=ANY, model="FLEX_START"),
    Case(name="flex-start-only", stops=RETRY),
    Case(name="on-demand-only", lands=(C1A, C1C, *EVERY_ZONE, C1A), models=ANY, model="STANDARD"),
    Case(name="stockout-mid-operation", lands=(C1A, C1C)),
    Case(name="stockout-by-503", lands=(C1A, C1C, E5A)),
    Case(name="region-out", lands=(C1A, E5A)),
    Case(name="unavailable-twice", lands=(C1A,)),
    Case(name="made-though-503", lands=(C1A, C1A), says="this launch may have made it"),
    Case(name="made-though-cut-off", lands=(C1A, C1A), says="the connection broke"),
    Case(name="preempted-at-boot", lands=(C1A, C1C), says="preempted before it served"),
    Case(name="preempted-while-created", lands=(C1A, C1C)),
    Case(
        name="permission-missing",
        stops=("a permission is missing", "project's owner"),
        refused=False,
        attempts=1,
    ),
    Case(name="nothing-anywhere", stops=RETRY, attempts=6),
)


class Field:
    """A local cloud in this process, and launches that work on it, one after the other."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world, self.clock = world, clock
        self.stack = Stack(world, clock)
        self.tried: list[Attempt] = []

    def begin(self, name: str) -> None:
        """No VM, nothing tried, and this pattern from now on."""
        life, store = self.world.of(Life), self.world.of(Store)
        for vm in store.all("instances"):
            life.destroy(vm)
        wait_until(lambda: not store.all("instances"), 60)
        self.world.faults.clear()
        self.stack.state, self.tried, self.clock.began = {}, [], self.clock.at
        self.world.of(Capacity).play(pattern.load(name))

    def climb(self, case: Case) -> list[Attempt]:
        """The walk; its last attempt has the VM."""
        question = Question(
            profile=profile.load("kimi-k2.5"),
            regions=REGIONS,
            weights_region="us-central1",
            machines=(AMPERE,),
            provisioning=case.models,
            hours=1,
        )
        launch = Launch(
            engine=self.stack,  # type: ignore[arg-type]  # as much of it as a launch needs
            cloud=connect(PROJECT),
            session=case.title[:40],  # another one reads the operations of another VM
            state_bucket=str(FOUNDATION["state_bucket"]),
            keys={"mayfly:layer": "session", "mayfly:profile": "kimi-k2.5"},
            tell=lambda line: None,
            grant=Grant(hours=1),
        )
        ladder = Ladder(rungs=rungs(question)[0], retry_for_s=case.retry_for_s)
        return climb(ladder, launch, self.clock, self._note)

    def _note(self, attempts: Sequence[Attempt], step: object) -> None:
        self.tried = list(attempts)

    def vms(self) -> list[dict[str, Any]]:
        """Those that cost money: a stopped one has no GPUs."""
        found = self.world.of(Store).all("instances")
        return [vm for vm in found if vm["status"] not in ("TERMINATED", "STOPPING")]


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    """One for all cases: its documents are long to read."""
    before = dict(os.environ)
    clock = Clock(time.time())
    world = World(PROJECT, machines=NoMachines(), clock=clock)
    door = Door("http")
    world.base_url = door.url
    server = Server(create_app(world), door)
    os.environ.update(endpoints(door.url))
    os.environ.update({"GOOGLE_PROJECT": PROJECT, "GOOGLE_OAUTH_ACCESS_TOKEN": "fake"})
    yield Field(world, clock)
    server.stop()
    world.close()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_ladder_lands_wherever_a_vm_is_to_be_had_and_else_says_what_to_do(ground, case):
    """An hour lost to a zone that Google had named, or a second VM, is money."""
    ground.begin(case.name)
    if case.stops:
        with pytest.raises(RefusedError if case.refused else FailedError) as stopped:
            ground.climb(case)
        said = str(stopped.value)
        assert [words for words in case.stops if words not in said] == []
        assert case.attempts in (0, len(ground.tried))
        assert ground.vms() == []
        return

    asked = ground.climb(case)

    zones = [attempt.rung.place.zone for attempt in asked]
    assert zones[-1:] == [case.lands[-1]] if case.retry_for_s else zones == list(case.lands)
    assert case.says in " ".join(a.verdict.reason for a in asked if a.verdict)
    (vm,) = ground.vms()
    assert (vm["status"], vm["id"]) == ("RUNNING", str(ground.stack.state["instanceId"]))
    assert vm["zone"].endswith(f"/{zones[-1]}")
    assert vm["scheduling"]["provisioningModel"] == case.model


def test_every_pattern_that_is_shipped_has_a_case():
    """A file that nobody plays may hold anything."""
    assert {case.name for case in CASES} == set(pattern.names())
