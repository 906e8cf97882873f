"""The walk with hands that only pretend: who is called when, and what is said at the end."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from mayfly.capacity import Verdict, classify
from mayfly.errors import FailedError, RefusedError
from mayfly.ladder.climb import climb
from mayfly.ladder.rungs import Rung
from mayfly.ladder.walk import Found, Ladder, Step
from tests.unit.ladders import ZONES, operation, rung, stockout

A, B, C = (rung(zone) for zone in ZONES[:3])


@dataclass
class Hands:
    """answers: what each zone says, in turn; then it has room. seen: what a look sees.

    taken_up: what becomes of a VM outside the state.
    """

    answers: dict[str, list[Any]] = field(default_factory=dict)
    seen: Found = "nothing"
    taken_up: Found = "adopted"
    asked: list[str] = field(default_factory=list)
    clock_s: float = 0.0
    steps: list[Step] = field(default_factory=list)

    def bring_up(self, at: Rung) -> Verdict | None:
        self.asked.append(f"up {at.place.zone}")
        self.clock_s += 30
        left = self.answers.get(at.place.zone, [])
        return classify(left.pop(0)) if left else None

    def look(self, at: Rung) -> Found:
        self.asked.append(f"look {at.place.zone}")
        return self.seen

    def take_up(self, at: Rung) -> Found:
        self.asked.append(f"take up {at.place.zone}")
        self.seen = "nothing"
        return self.taken_up

    def now_s(self) -> float:
        return self.clock_s

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.asked.append(f"wait {seconds:.0f}")
        self.clock_s += seconds

    def tell(self, _: Any, step: Step) -> None:
        self.steps.append(step)

    def climb(self, *rungs: Rung, retry_for_s: float = 0) -> list[Any]:
        return climb(Ladder(rungs=rungs, retry_for_s=retry_for_s), self, self, self.tell)


def test_climb_asks_one_place_after_another_until_one_has_room():
    """And ends there: a second VM would be a second bill."""
    hands = Hands({ZONES[0]: [stockout()], ZONES[1]: [stockout()]})

    attempts = hands.climb(A, B, C)

    assert hands.asked == [f"up {zone}" for zone in ZONES[:3]]
    assert attempts[-1].verdict is None
    assert [a.ended_s for a in attempts] == [30, 60, 90]
    assert len(hands.steps) == 4  # three tries and the end were told


@pytest.mark.parametrize("taken_up", ["adopted", "cleared"])
def test_climb_takes_its_lost_vm_up_before_it_asks_again(taken_up: Found):
    """The answer was lost, the VM was made: it is outside the state, and costs."""
    lost = {ZONES[0]: ["Error creating instance: Post: EOF"]}
    hands = Hands(lost, seen="ours", taken_up=taken_up)

    hands.climb(A, B)

    zone = ZONES[0]
    assert hands.asked == [f"up {zone}", f"look {zone}", f"take up {zone}", f"up {zone}"]


def test_climb_touches_nothing_when_the_vm_there_is_anothers():
    """Never another's VM."""
    hands = Hands({ZONES[0]: ["googleapi: Error 409: already exists, alreadyExists"]}, "others")

    with pytest.raises(FailedError, match="this stack did not make it"):
        hands.climb(A, B)

    assert hands.asked == [f"up {ZONES[0]}", f"look {ZONES[0]}"]


def test_climb_waits_between_rounds_and_lands_when_capacity_comes_back():
    """What `--retry-for` is for."""
    hands = Hands({zone: [stockout()] * 2 for zone in ZONES[:2]})

    attempts = hands.climb(A, B, retry_for_s=3600)

    assert [word for word in hands.asked if word.startswith("wait")] == ["wait 120", "wait 240"]
    assert len(attempts) == 5


def test_climb_says_no_with_exit_code_3_when_nobody_has_room():
    """A script must be able to tell "no" from "broken"."""
    hands = Hands({zone: [stockout()] for zone in ZONES[:2]})

    with pytest.raises(RefusedError, match="2 places were asked in 2 attempts") as caught:
        hands.climb(A, B)

    assert caught.value.exit_code == 3


def test_climb_fails_with_the_remedy_when_something_is_off():
    """Exit code 1: it was tried, and a person must act."""
    said = "googleapi: Error 403: This API method requires billing to be enabled."
    hands = Hands({ZONES[0]: [said]})

    with pytest.raises(FailedError, match="gcloud billing projects link"):
        hands.climb(A, B)

    assert hands.asked == [f"up {ZONES[0]}"]


def test_climb_stops_at_once_when_the_global_quota_is_used_up():
    """No zone can help; quotas are a "no"."""
    error = operation("QUOTA_EXCEEDED", "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.")
    hands = Hands({ZONES[0]: [error]})

    with pytest.raises(RefusedError, match="GPUS_ALL_REGIONS"):
        hands.climb(A, B)
