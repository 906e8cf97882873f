"""Room that comes and goes, quotas that hold, requests that wait: as Google says each of them."""

from typing import Any

import pytest

from local.rest import pattern
from local.rest.compute.life import Life
from local.rest.compute.store import Store
from tests.cloud.conftest import ZONE, Api, message, spot_vm
from tests.waiting import wait_until

VM = f"{ZONE}/instances/mayfly-one"
REGION = "/compute/v1/projects/proj/regions/us-central1"
INFOS = (
    "/quotas/v1beta/projects/proj/locations/global/services/compute.googleapis.com/quotaInfos/{}"
)
SPOT_H100 = "PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region"
SPOT_A100 = "PREEMPTIBLE-NVIDIA-A100-80GB-GPUS-per-project-region"
AMPERE = "zones/us-central1-a/machineTypes/a2-ultragpu-8g"
FLEX = {
    "provisioningModel": "FLEX_START",
    "automaticRestart": False,
    "onHostMaintenance": "TERMINATE",
    "instanceTerminationAction": "DELETE",
    "maxRunDuration": {"seconds": 3600},
}
STANDARD = FLEX | {"provisioningModel": "STANDARD"}
LONG_S = 60


def play(api: Api, **wanted: Any) -> None:
    status, answer = api.post("/_local/capacity", wanted)
    assert status == 200, answer


def error_of(operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = operation["error"]["errors"][0]
    return found


def queued(api: Api, seconds: int = 600) -> dict[str, Any]:
    """The operation of a FLEX_START request that waits."""
    params = {"requestValidForDuration": {"seconds": seconds}}
    status, operation = api.insert(scheduling=FLEX, params=params)
    assert (status, operation["status"]) == (200, "RUNNING"), operation
    return operation  # type: ignore[no-any-return]


def look(api: Api, operation: dict[str, Any]) -> dict[str, Any]:
    return api.get(f"{ZONE}/operations/{operation['name']}")[1]  # type: ignore[no-any-return]


def ended(api: Api, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation, once it is done: boots are carried out in threads of their own."""
    api.world.of(Life).enforce()
    wait_until(lambda: look(api, operation)["status"] == "DONE", LONG_S)
    return look(api, operation)


def insert(api: Api, **changes: Any) -> dict[str, Any]:
    """An insert that is taken: its operation, once it is done."""
    status, operation = api.insert(**changes)
    assert status == 200, operation
    return ended(api, operation)


def act(api: Api, verb: str) -> dict[str, Any]:
    """A start or a stop: its operation, once it is done."""
    return ended(api, api.post(f"{VM}/{verb}")[1])


def test_room_comes_and_goes_by_the_clouds_clock(api, clock):
    """A ladder that goes round for hours is tested in no time."""
    play(api, capacity=[{"zone": "us-central1-a", "room": [[10, 20]], "names": []}])

    early = insert(api)
    clock.now += 600
    there = insert(api)
    clock.now += 600
    late = insert(api, name="mayfly-two")

    assert error_of(early)["code"] == error_of(late)["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert "error" not in there
    assert api.get(VM)[1]["status"] == "RUNNING"


def test_stockout_names_the_zones_of_the_region_that_have_room(api):
    """`zonesAvailable` that is always right teaches nothing, one that never is no more."""
    play(api, capacity=[{"zone": "us-central1-[ab]", "room": "never"}])

    details = error_of(insert(api))["errorDetails"]

    assert details[2]["errorInfo"]["metadatas"]["zonesAvailable"] == "us-central1-c"


def test_stockout_comes_as_503_when_the_pattern_says_so(api):
    """Google's second voice: no operation is ever seen."""
    play(api, capacity=[{"room": "never", "answer": "stockout-http-503"}])

    status, answer = api.insert()

    assert status == 503
    assert "does not have enough resources available" in message(answer)
    assert api.get(f"{ZONE}/operations")[1].get("items", []) == []
    assert api.world.of(Store).all("disks") == []


def test_stockout_comes_late_when_the_operation_takes_its_time(api, clock):
    """A caller that looks at the first answer alone believes there is a VM."""
    play(api, capacity=[{"room": "never", "after_s": 30}])

    operation = api.insert()[1]
    clock.now += 31

    assert operation["status"] == "RUNNING"
    assert "error" in ended(api, operation)


def test_room_is_for_gpus_unless_a_row_names_the_machine(api):
    """A seed's CPU machine is no part of a GPU drought."""
    play(api, capacity=[{"room": "never"}])
    cpu = {"machineType": "zones/us-central1-a/machineTypes/n2-standard-8", "scheduling": {}}

    assert "error" not in insert(api, **cpu)


def test_spot_vm_goes_when_its_room_goes_and_the_pattern_reclaims(api, clock):
    """Preemption is capacity that somebody else has paid for."""
    play(api, capacity=[{"zone": "us-central1-a", "room": [[0, 5]], "reclaims": True}])
    operation = insert(api)
    clock.now += 301

    api.world.of(Life).enforce()
    wait_until(lambda: api.get(VM)[0] == 404, LONG_S)

    kinds = [
        found["operationType"]
        for found in api.get(f"{ZONE}/operations")[1]["items"]
        if found["targetId"] == operation["targetId"]
    ]
    assert "compute.instances.preempted" in kinds


def test_stopped_vm_stays_stopped_when_there_is_no_room_to_start_it(api):
    """Its disk is no promise of GPUs."""
    insert(api)
    act(api, "stop")
    play(api, capacity=[{"room": "never", "names": []}])

    operation = act(api, "start")

    assert error_of(operation)["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert api.get(VM)[1]["status"] == "TERMINATED"


# --- quotas ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota_id", "limit", "vm", "text", "dimensions"),
    [
        (
            SPOT_H100,
            7,
            {},
            "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 7.0 in region us-central1.",
            {"region": "us-central1"},
        ),
        (
            SPOT_H100,
            0,
            {"scheduling": FLEX},
            "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 0.0 in region us-central1.",
            {"region": "us-central1"},
        ),
        (
            "GPUS-PER-GPU-FAMILY-per-project-region",
            0,
            {"scheduling": STANDARD},
            "Quota 'GPUS_PER_GPU_FAMILY' exceeded.  Limit: 0.0 in region us-central1.",
            {"region": "us-central1", "gpu_family": "NVIDIA_H100"},
        ),
        (
            "NVIDIA-A100-80GB-GPUS-per-project-region",
            1,
            {"scheduling": STANDARD, "machineType": AMPERE},
            "Quota 'NVIDIA_A100_80GB_GPUS' exceeded.  Limit: 1.0 in region us-central1.",
            {"region": "us-central1"},
        ),
        (
            "GPUS-ALL-REGIONS-per-project",
            7,
            {},
            "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 7.0 globally.",
            {"global": "global"},
        ),
        (
            "CPUS-ALL-REGIONS-per-project",
            207,
            {},
            "Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 207.0 globally.",
            {"global": "global"},
        ),
        (
            "LOCAL-SSD-TOTAL-GB-per-project-region",
            5999,
            {},
            "Quota 'LOCAL_SSD_TOTAL_GB' exceeded.  Limit: 5999.0 in region us-central1.",
            {"region": "us-central1"},
        ),
        (
            "SSD-TOTAL-GB-per-project-region",
            199,
            {},
            "Quota 'SSD_TOTAL_GB' exceeded.  Limit: 199.0 in region us-central1.",
            {"region": "us-central1"},
        ),
    ],
)
def test_insert_is_refused_when_a_limit_is_one_too_low(api, quota_id, limit, vm, text, dimensions):
    """Seven GPUs are as little as none; the VM and its disk leave nothing."""
    play(api, quotas={quota_id: limit})

    operation = insert(api, **vm)

    error = error_of(operation)
    assert (error["code"], error["message"]) == ("QUOTA_EXCEEDED", text)
    info = error["errorDetails"][0]["quotaInfo"]
    assert (info["limitName"], info["limit"]) == (quota_id, limit)
    assert info["dimensions"] == dimensions
    assert api.get(VM)[0] == 404
    assert api.world.of(Store).all("disks") == []


def test_quota_comes_as_403_when_the_pattern_says_so(api):
    """A 403 that is no missing right."""
    play(api, quotas={SPOT_H100: 0}, quota_answer="http")

    status, answer = api.insert()

    assert (status, answer["error"]["errors"][0]["reason"]) == (403, "quotaExceeded")


def test_quota_is_used_by_what_lives_and_given_back_by_what_ends(api):
    """Counted from the VMs themselves: a counter beside them would drift."""
    play(api, quotas={SPOT_H100: 8})
    insert(api, scheduling=spot_vm()["scheduling"] | {"instanceTerminationAction": "STOP"})

    second = insert(api, name="mayfly-two")
    act(api, "stop")
    third = insert(api, name="mayfly-two")
    again = act(api, "start")

    assert error_of(second)["code"] == "QUOTA_EXCEEDED"
    assert "error" not in third
    assert error_of(again)["code"] == "QUOTA_EXCEEDED"


def test_other_regions_quota_counts_for_nothing_when_this_one_has_some(api):
    """The ladder's reason to go to another region."""
    play(api, quotas={SPOT_H100: {"us-east4": 0}})

    assert "error" not in insert(api)


def test_every_list_shows_the_limit_that_an_insert_is_held_to(api):
    """`mayfly quota` reads one of them; they cannot disagree."""
    play(api, quotas={SPOT_A100: {"us-central1": 9}, "GPUS-ALL-REGIONS-per-project": 11})
    insert(api, machineType=AMPERE)

    infos = api.get(INFOS.format(SPOT_A100))[1]["dimensionsInfos"]
    region = {q["metric"]: q for q in api.get(REGION)[1]["quotas"]}
    project = {q["metric"]: q for q in api.get("/compute/v1/projects/proj")[1]["quotas"]}
    refused = error_of(insert(api, name="mayfly-two", machineType=AMPERE))

    here = [i for i in infos if i["dimensions"] == {"region": "us-central1"}]
    assert here[0]["details"]["value"] == "9"
    spot = region["PREEMPTIBLE_NVIDIA_A100_80GB_GPUS"]
    assert (spot["limit"], spot["usage"]) == (9, 8)
    assert (project["GPUS_ALL_REGIONS"]["limit"], project["GPUS_ALL_REGIONS"]["usage"]) == (11, 8)
    assert "Limit: 9.0 in region us-central1" in refused["message"]
    assert not any("H100" in metric for metric in region)  # Google leaves those out there


# --- flex-start -----------------------------------------------------------------------------


def test_flex_start_waits_for_room_and_gets_it(api, clock):
    """PENDING, with an operation that runs on; nothing is held meanwhile."""
    play(api, capacity=[{"room": [[5, None]]}], quotas={SPOT_H100: 8})
    operation = queued(api)
    pending = api.get(VM)[1]["status"]
    clock.now += 301

    done = ended(api, operation)

    assert pending == "PENDING"
    assert "error" not in done
    assert api.get(VM)[1]["status"] == "RUNNING"


def test_flex_start_fails_when_its_time_is_over(api, clock):
    """The VM that never was leaves nothing."""
    play(api, capacity=[{"room": "never", "names": []}])
    operation = queued(api, 90)
    api.world.of(Life).enforce()
    waits = look(api, operation)["status"]
    clock.now += 91

    assert waits == "RUNNING"
    assert error_of(ended(api, operation))["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert api.get(VM)[0] == 404


def test_flex_start_fails_when_room_comes_and_the_quota_is_used_up(api, clock):
    """Waiting reserves nothing."""
    play(api, capacity=[{"model": "FLEX_START", "room": [[1, None]]}], quotas={SPOT_H100: 8})
    operation = queued(api)
    insert(api, name="mayfly-two")
    clock.now += 61

    assert error_of(ended(api, operation))["code"] == "QUOTA_EXCEEDED"


def test_flex_start_request_is_withdrawn_when_its_vm_is_deleted(api):
    """Ctrl-C must not buy a VM two hours later."""
    play(api, capacity=[{"room": "never"}])
    operation = queued(api)

    api("DELETE", VM)

    assert error_of(ended(api, operation))["code"] == "OPERATION_CANCELED_BY_USER"
    assert api.get(VM)[0] == 404


def test_flex_start_is_answered_at_once_when_it_may_not_wait(api):
    """What Pulumi's provider sends: it knows no such field."""
    play(api, capacity=[{"room": "never", "names": []}])

    operation = insert(api, scheduling=FLEX)

    assert (operation["status"], "error" in operation) == ("DONE", True)


@pytest.mark.parametrize(
    ("scheduling", "seconds", "text"),
    [
        (FLEX, 60, "It must be 0 or between 90 and 7200 seconds."),
        (FLEX, 7201, "It must be 0 or between 90 and 7200 seconds."),
        (spot_vm()["scheduling"], 90, "for the FLEX_START provisioning model only."),
    ],
)
def test_wait_for_capacity_is_refused_when_google_would(api, scheduling, seconds, text):
    """An hour in a queue that does not exist is an hour lost."""
    params = {"requestValidForDuration": {"seconds": seconds}}

    status, answer = api.insert(scheduling=scheduling, params=params)

    assert status == 400
    assert text in message(answer)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"maxRunDuration": None}, "FLEX_START needs a maximum run duration"),
        ({"instanceTerminationAction": "STOP"}, "and the termination action DELETE"),
        ({"preemptible": True}, "A legacy preemptible VM cannot have a time limit."),
        ({"maxRunDuration": {"seconds": 8 * 86400}}, "between 30 seconds and 7 days"),
    ],
)
def test_flex_start_is_refused_when_its_life_is_not_bounded_as_google_wants(api, change, text):
    """What the local cloud takes and Google does not is found out on a bill."""
    wanted = {k: v for k, v in (FLEX | change).items() if v is not None}

    status, answer = api.insert(scheduling=wanted)

    assert status == 400
    assert text in message(answer)


# --- patterns -------------------------------------------------------------------------------


def test_pattern_is_set_by_its_name_and_its_quotas_and_faults_go_with_it(api):
    """`mayfly local up --setting capacity=NAME`, and the next one on a running cloud."""
    assert api.post("/_local/settings", {"capacity": "global-quota-of-seven"})[0] == 200
    first = error_of(insert(api))["message"]
    assert api.post("/_local/settings", {"capacity": "permission-missing"})[0] == 200
    second = message(api.insert()[1])
    shown = api.get("/_local/capacity")[1]
    assert api.post("/_local/settings", {"capacity": ""})[0] == 200

    assert "GPUS_ALL_REGIONS" in first
    assert "Required 'compute.instances.create' permission" in second
    assert (shown["name"], shown["minute"]) == ("permission-missing", 0)
    assert "error" not in insert(api)


def test_pattern_is_read_from_a_file_of_the_users(api, tmp_path):
    """Somebody's own bad Monday, played as often as it takes."""
    path = tmp_path / "monday.yaml"
    path.write_text("says: mine\ncapacity:\n- {zone: us-central1-a, room: never}\n")

    assert api.post("/_local/settings", {"capacity": str(path)})[0] == 200

    assert "error" in insert(api)
    assert api("DELETE", "/_local/capacity")[1]["capacity"] == []
    assert "error" not in insert(api)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"capacities": []}, "a pattern has 'capacities'"),
        ({"capacity": [{"place": "x"}]}, "capacity[0] has 'place'"),
        ({"capacity": [{"model": "spot"}]}, "capacity[0].model is 'spot', not one of SPOT"),
        ({"capacity": [{"answer": "gone"}]}, "capacity[0].answer is 'gone'"),
        ({"capacity": [{"room": "sometimes"}]}, "capacity[0].room is 'sometimes'"),
        ({"capacity": [{"room": [[5, 3]]}]}, "its turns must follow each other"),
        ({"quotas": {"H100": 8}}, "no quota H100"),
        ({"quotas": {SPOT_H100: "many"}}, "is 'many' in all, no limit"),
        ({"quota_answer": "letter"}, "quota_answer is 'letter'"),
        ({"faults": [{"fault": "earthquake"}]}, "no fault 'earthquake'"),
        ([], "a pattern is no mapping"),
    ],
)
def test_pattern_is_refused_when_it_cannot_be_meant(api, wanted, text):
    """A misspelt drought would let every ladder pass; what was in force stays."""
    play(api, says="before", capacity=[{"room": "never"}])

    status, answer = api.post("/_local/capacity", wanted)

    assert (status, text in answer["error"]) == (400, True), answer
    assert api.get("/_local/capacity")[1]["says"] == "before"


@pytest.mark.parametrize(
    ("content", "text"), [(None, "no pattern 'nowhere.yaml'"), ("a: [", "nowhere.yaml: ")]
)
def test_setting_is_refused_when_its_pattern_cannot_be_read(
    api, tmp_path, monkeypatch, content, text
):
    """`mayfly local up` says so before it starts anything."""
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / "nowhere.yaml").write_text(content)

    status, answer = api.post("/_local/settings", {"capacity": "nowhere.yaml"})

    assert status == 400
    assert text in answer["error"]


@pytest.mark.parametrize("name", pattern.names())
def test_pattern_that_is_shipped_can_be_played_and_says_what_it_is(name):
    """They are the examples that people copy."""
    found = pattern.load(name)

    assert found.says.endswith(".")
    assert found.rows or found.quotas or found.faults
