"""What Google's operations say of one attempt, and of that one only."""

from types import SimpleNamespace
from typing import Any

import pytest

from mayfly.cloud import CloudError
from mayfly.ladder.rungs import Place
from mayfly.lookout import Lookout
from tests.unit.ladders import operation

PLACE = Place(machine="a3-highgpu-8g", zone="us-central1-a", provisioning="spot")
BROKEN = 'Error creating instance: Post "http://compute/instances": EOF'
QUOTA = operation("QUOTA_EXCEEDED", "Quota 'X' exceeded.  Limit: 0.0 in region us-central1.")


class Operations:
    """Compute's list of operations, which grows. fails: it does not answer."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.fails = False

    def add(self, failed: dict[str, Any]) -> None:
        at = f"2026-11-24T00:00:{len(self.listed):02}Z"
        named = {"name": f"operation-{len(self.listed)}", "insertTime": at}
        self.listed.append({"operationType": "insert", **named, **failed})

    def operations(self, filter: str) -> list[dict[str, Any]]:
        assert filter == "targetLink eq .*/zones/us-central1-a/instances/mayfly-dev"
        if self.fails:
            raise CloudError(503, "unavailable", "compute: 503")
        return list(self.listed)


@pytest.fixture
def google() -> Operations:
    return Operations()


@pytest.fixture
def lookout(google: Operations) -> Lookout:
    cloud: Any = SimpleNamespace(compute=google)
    return Lookout(cloud=cloud, session="dev", state_bucket="states", tell=lambda line: None)


def test_attempt_is_judged_by_its_own_operation_when_an_earlier_one_failed_too(google, lookout):
    """The newest word counts: by the earlier one a region with room would be given up."""
    google.add(QUOTA)
    before = lookout.inserts(PLACE)
    google.add(operation("ZONE_RESOURCE_POOL_EXHAUSTED"))

    assert lookout.classified(PLACE, before, BROKEN).action == "next_zone"


def test_attempt_is_judged_by_pulumis_words_when_it_left_no_operation(google, lookout):
    """A dropped connection right after a refusal: a VM may be there, and must be looked for."""
    google.add(QUOTA)
    before = lookout.inserts(PLACE)

    assert lookout.classified(PLACE, before, BROKEN).action == "look_first"


@pytest.mark.parametrize("when", ["before", "after"])
def test_attempt_is_judged_by_pulumis_words_when_the_operations_cannot_be_read(
    google, lookout, when
):
    """Which of them are its own nobody can tell then."""
    google.fails = when == "before"
    before = lookout.inserts(PLACE)
    google.fails = when == "after"
    google.add(QUOTA)

    assert lookout.classified(PLACE, before, BROKEN).action == "look_first"
