"""Live chances and prices in the ladder: Google's own word of now goes before a table of June."""

import os

import pytest

from local.rest.world import World
from mayfly import profile
from mayfly.cloud import connect
from mayfly.commands.up_advice import advised
from mayfly.ladder.rungs import Question, rungs
from tests.desk import project

ZONES = ("us-central1-a", "us-central1-c")


@pytest.fixture
def world():
    found = World()
    with project.serving(found) as environment:
        os.environ.update(environment)
        project.switch_on(found, "compute")
        yield found


def wanted(**more):
    given = {
        "profile": profile.load("kimi-k2.5"),
        "regions": ("us-central1",),
        "weights_region": "us-central1",
        "machines": ("a2-ultragpu-8g",),
    }
    return Question(**(given | more))


def test_ladder_begins_where_google_sees_room_when_it_is_asked(world):
    """Two zones of one price: the chance decides."""
    world.change_settings({"obtainability": "us-central1-a=0.02,us-central1-c=0.9"})

    found, _ = rungs(advised(wanted(), connect(world.project), pytest.fail))

    assert [r.place.zone for r in found] == ["us-central1-c", "us-central1-a"]
    assert [r.obtainability for r in found] == [0.9, 0.02]
    assert found[0].rate.source.startswith(f"Google's price history in project {world.project}")


def test_ladder_goes_by_the_table_and_says_so_when_there_is_no_advice(world):
    """Advice is help, not a condition: a right that is missing must not stop a launch."""
    world.faults.order({"fault": "permission-http-403", "method": "compute.advice.*", "times": 0})
    said: list[str] = []

    found, _ = rungs(advised(wanted(), connect(world.project), said.append))

    assert [r.place.zone for r in found] == list(ZONES)
    assert all(r.rate.source.startswith("skypilot-catalog") for r in found)
    assert said[0].startswith("no advice on a2-ultragpu-8g, going by the table of prices")


def test_advice_is_not_asked_for_when_spot_is_not_wanted(world):
    """It speaks of Spot only."""
    cloud = connect(world.project)
    asked = wanted(provisioning=("on-demand",))

    assert advised(asked, cloud, pytest.fail) is asked
    assert cloud.calls == 0
