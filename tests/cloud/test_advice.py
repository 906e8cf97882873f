"""Advice on spot capacity: what Google would refuse is refused, the rest is in its shape."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.conftest import Api, message

ADVICE = "/compute/v1/projects/proj/regions/us-central1/advice"
SPOT = {"scheduling": {"provisioningModel": "SPOT"}}


def wanted(**changes: Any) -> dict[str, Any]:
    return {
        "size": 1,
        "instanceProperties": SPOT,
        "instanceFlexibilityPolicy": {
            "instanceSelections": {"only": {"machineTypes": ["a3-highgpu-8g"]}}
        },
        "distributionPolicy": {"zones": [{"zone": "zones/us-central1-a"}]},
    } | changes


def test_capacity_advice_names_the_zone_when_it_has_the_machine(api: Api) -> None:
    """A score without its shard would be taken for the wrong zone's."""
    api.world.change_settings({"obtainability": "us-central1-a=0.9"})

    status, answer = api.post(f"{ADVICE}/capacity", wanted())

    (found,) = answer["recommendations"]
    assert status == 200
    assert found["scores"]["obtainability"] == 0.9
    assert found["scores"]["estimatedUptime"].endswith("s")
    assert found["shards"][0]["zone"] == "us-central1-a"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 0}, "between 1 and"),
        ({"instanceProperties": {"scheduling": {"provisioningModel": "STANDARD"}}}, "Only SPOT"),
        ({"instanceFlexibilityPolicy": {}}, "Exactly one instance selection"),
        ({"distributionPolicy": {"zones": [{"zone": "zones/us-east4-a"}]}}, "not in region"),
        ({"distributionPolicy": {"zones": [{"zone": "zones/us-central1-f"}]}}, "not available"),
        ({"zones": ["us-central1-a"]}, "zones"),
    ],
)
def test_capacity_advice_is_refused_when_it_is_no_spot_request(
    api: Api, changes: dict[str, Any], said: str
) -> None:
    """A stand-in that answers everything would hide a wrong request until it meets Google."""
    status, answer = api.post(f"{ADVICE}/capacity", wanted(**changes))

    assert status == 400
    assert said in message(answer)


def test_capacity_history_tells_prices_and_preemptions_when_asked_for_both(api: Api) -> None:
    """Each day's preemptions, each month's price, as money; and nothing that was not asked."""
    body = {
        "types": ["PREEMPTION", "PRICE"],
        "instanceProperties": {"machineType": "a3-highgpu-8g", **SPOT},
        "locationPolicy": {"location": "zones/us-central1-a"},
    }

    status, both = api.post(f"{ADVICE}/capacityHistory", body)
    _, one = api.post(f"{ADVICE}/capacityHistory", body | {"types": ["PRICE"]})
    other = api.post(f"{ADVICE}/capacityHistory", body | {"types": []})

    assert status == 200
    assert len(both["preemptionHistory"]) == 30
    assert both["priceHistory"][-1]["listPrice"]["currencyCode"] == "USD"
    assert "preemptionHistory" not in one
    assert other[0] == 400
