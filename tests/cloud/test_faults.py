"""Faults on request: what strikes, whom, how often, and what is left behind."""

import pytest
import requests

from local.rest.fault_catalogue import CATALOGUE
from local.rest.fault_kinds import Effect
from tests.cloud.conftest import ZONE, Api, message, spot_vm

VM = f"{ZONE}/instances/mayfly-one"


def exists(api):
    return api.get(VM)[0] == 200


@pytest.mark.parametrize(
    ("name", "status", "reason", "text"),
    [
        ("quota-http-403", 403, "quotaExceeded", "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded."),
        ("permission-http-403", 403, "forbidden", "Required 'compute.instances.create' permission"),
        ("api-off-http-403", 403, "accessNotConfigured", "has not been used in project proj"),
        ("billing-http-403", 403, "forbidden", "requires billing to be enabled"),
        ("org-policy-http-412", 412, "conditionNotMet", "constraints/compute.vmExternalIpAccess"),
        ("bad-request-http-400", 400, "invalid", "does not exist in zone 'us-central1-a'"),
        ("already-exists-http-409", 409, "alreadyExists", "instances/mayfly-one' already exists"),
        ("not-found-http-404", 404, "notFound", "global/networks/default' was not found"),
        ("unauthenticated-http-401", 401, "authError", "invalid authentication credentials"),
        ("http-5xx", 503, "backendError", "The service is currently unavailable."),
        ("rate-limit-http-429", 429, "rateLimitExceeded", "Queries per minute"),
        ("rate-limit-http-403", 403, "rateLimitExceeded", "Rate Limit Exceeded"),
        ("stockout-http-503", 503, "ZONE_RESOURCE_POOL_EXHAUSTED", "not have enough resources"),
    ],
)
def test_insert_fails_as_ordered_and_once(api, name, status, reason, text):
    """The ladder tells these apart by status, reason and text together."""
    api.fault(name, where={"zone": "us-central1-a"})

    got, answer = api.insert()
    missing = not exists(api)
    again, _ = api.insert()

    assert status == got
    assert reason == answer["error"]["errors"][0]["reason"]
    assert text in message(answer)
    assert missing
    assert again == 200


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        (
            "stockout-with-details",
            "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
            "does not have enough resources available to fulfill the request.",
        ),
        ("stockout-plain", "ZONE_RESOURCE_POOL_EXHAUSTED", "Try a different zone"),
        ("quota-exceeded-op", "QUOTA_EXCEEDED", "in region us-central1."),
        ("global-quota-op", "QUOTA_EXCEEDED", "'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."),
        ("internal-error-op", "INTERNAL_ERROR", "contact Google Support"),
        ("unsupported-op", "UNSUPPORTED_OPERATION", "SPOT is not supported"),
    ],
)
def test_insert_is_taken_and_its_operation_fails(api, name, code, text):
    """200 first: who looks at the status alone believes there is a VM."""
    api.fault(name)

    status, operation = api.insert()

    error = operation["error"]["errors"][0]
    assert (200, "DONE", code) == (status, operation["status"], error["code"])
    assert text in error["message"]
    assert not exists(api)
    assert api.world.machines.events == []


def test_stockout_names_open_zones_in_prose_and_in_metadatas(api):
    """The ladder reads `zonesAvailable` from the operation, else the prose."""
    zones = "us-east4-a,us-east4-b"
    api.fault("stockout-with-details", **{"with": {"zonesAvailable": zones}})

    _, operation = api.insert()

    details = operation["error"]["errors"][0]["errorDetails"]
    prose = next(d["localizedMessage"]["message"] for d in details if "localizedMessage" in d)
    info = next(d["errorInfo"]["metadatas"] for d in details if "errorInfo" in d)
    assert "Consider trying your request in the us-east4-a, us-east4-b zone(s)" in prose
    assert (zones, "a3-highgpu-8g") == (info["zonesAvailable"], info["vmType"])


def test_vm_exists_when_only_the_answer_failed(api):
    """The orphan's cause: the retry finds it as a 409."""
    api.fault("http-5xx-after")

    first, _ = api.insert()
    second, _ = api.insert()

    assert (first, second) == (503, 409)
    assert exists(api)


@pytest.mark.parametrize(("name", "left_behind"), [("dropped-before", 404), ("dropped-after", 200)])
def test_connection_closes_without_an_answer(world, served, name, left_behind):
    """Over a real socket: the client sees no status at all."""
    api = Api(world)
    api.fault(name)

    with pytest.raises(requests.ConnectionError):
        requests.post(
            f"{served}{ZONE}/instances",
            json=spot_vm(),
            headers={"Authorization": "Bearer fake"},
            timeout=10,
        )

    assert left_behind == api.get(VM)[0]
    _, report = api.get("/_local/calls")
    assert report["calls"][0]["status"] == "dropped"


def test_operation_runs_on_for_as_many_polls_as_ordered(api):
    """Polls are counted, not seconds: no test waits."""
    api.fault("slow-operation", **{"with": {"polls": 2}})

    _, operation = api.insert()
    path = f"{ZONE}/operations/{operation['name']}"
    looks = [api.get(path)[1]["status"] for _ in range(3)]

    assert operation["status"] == "RUNNING"
    assert looks == ["RUNNING", "RUNNING", "DONE"]


def test_operation_runs_on_for_a_time(api, clock):
    """By the setting for all, or by a fault for one."""
    api.post("/_local/settings", {"operation_s": 5})

    _, operation = api.insert()
    path = f"{ZONE}/operations/{operation['name']}"
    early = api.get(path)[1]["status"]
    clock.now += 6

    assert (early, api.get(path)[1]["status"]) == ("RUNNING", "DONE")


def test_status_and_disappearance_are_shown_as_often_as_ordered(api):
    """The provider hangs on TERMINATED and gives up on 404: both must be playable."""
    api.insert()
    api.fault("status", times=2, **{"with": {"status": "TERMINATED"}})
    api.fault("gone", times=0)

    looks = [api.get(VM) for _ in range(4)]

    assert [answer["status"] for _, answer in looks[:2]] == ["TERMINATED", "TERMINATED"]
    assert [status for status, _ in looks[2:]] == [404, 404]
    api("DELETE", "/_local/faults")
    assert exists(api)


def test_fault_hits_only_what_it_names(api):
    """A stockout in one zone leaves the next one open."""
    api.fault("stockout-plain", times=0, where={"zone": "us-east5-a"})
    api.fault("permission-http-403", where={"name": "somebody-else"})

    status, operation = api.insert()

    assert status == 200
    assert "error" not in operation
    assert len(api.get("/_local/faults")[1]) == 2


def test_fault_strikes_any_product_by_its_method(api):
    """Transport trouble is not Compute's alone."""
    api.fault("http-5xx", method="compute.zones.*", **{"with": {"status": 500}})

    status, answer = api.get("/compute/v1/projects/proj/zones")

    assert status == 500
    assert message(answer) == "Internal error encountered."


def test_fault_hits_every_other_call_when_it_is_ordered_so(api):
    """A service that fails every other call is the one that a single retry hides."""
    api.insert()
    api.fault("gone", times=0, every=2)

    assert [api.get(VM)[0] for _ in range(4)] == [200, 404, 200, 404]


def test_fault_is_lifted_alone_when_it_is_taken_back(api, world):
    """Scenarios that share a cloud must not end each other's trouble."""
    api.insert()
    for name in ("mayfly-one", "mayfly-two"):
        api.fault("gone", times=0, where={"instance": name})

    world.faults.lift("gone", {"instance": "mayfly-one"})

    assert api.get(VM)[0] == 200
    assert [order["where"] for order in world.faults.shown()] == [{"instance": "mayfly-two"}]


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ({"fault": "earthquake"}, "no fault 'earthquake'; there are stockout-with-details"),
        ({"fault": "gone", "often": 3}, "a fault is {fault"),
        ({"fault": "gone", "times": -3}, "times is -3"),
        ({"fault": "gone", "every": 0}, "every is 0"),
        ({"fault": "gone", "with": {"colour": 1}}, "gone knows no colour"),
        ("gone", "a fault is {fault"),
    ],
)
def test_fault_is_refused_when_it_makes_no_sense(api, order, text):
    """A misspelt fault would make a test pass without its trouble."""
    status, answer = api.post("/_local/faults", order)

    assert status == 400
    assert text in answer["error"]


def test_every_fault_of_the_catalogue_has_an_effect_that_is_tried_here():
    """A new kind of effect needs a test of its own."""
    assert set(Effect) == {recipe.effect for recipe in CATALOGUE.values()}
