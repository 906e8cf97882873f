"""`mayfly quota`, `mayfly capacity`: a no comes before anything is billed, with what to ask."""

import json
import os

import pytest

from components.gpu_node import BOOT_DISK_GB
from local.rest.quotas import Quotas
from local.rest.serviceusage import Services
from local.rest.world import World
from mayfly import quota
from mayfly.cli import main
from mayfly.machines import GPU_MACHINES, MACHINES
from tests.desk.project import serving, switch_on

SPOT_H100 = "PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region"
HERE = ("--machine", "a3-highgpu-8g", "--region", "us-central1")


@pytest.fixture
def world(checkout):
    """A project with its APIs on."""
    made = World("proj")
    with serving(made) as environment:
        os.environ.update(environment)
        switch_on(made, "compute", "cloudquotas")
        yield made


def grant(world: World, quota_id: str, region: str, value: int) -> None:
    entries = world.of(Quotas).limits[quota_id]
    world.of(Quotas).limits[quota_id] = [
        (where, value if where.get("region", region) == region else held) for where, held in entries
    ]


def checked(capsys, *words: str) -> tuple[int, dict, str]:
    status = main(["quota", "check", "kimi-k2.5", "--json", *words])
    said = capsys.readouterr()
    return status, json.loads(said.out), said.err


def test_quota_check_says_yes_naming_the_regions_when_eight_are_granted(world, capsys):
    """Whoever is told yes launches next: each limit must be there, and the H100's too."""
    status, found, _ = checked(capsys)

    assert status == 0
    assert "us-central1" in found["enough_in"]
    here = {row["quota_id"]: row for row in found["regions"]["us-central1"]}
    assert (here[SPOT_H100]["needed"], here[SPOT_H100]["limit"]) == (8, 64)
    assert here["LOCAL-SSD-TOTAL-GB-per-project-region"]["needed"] == 6000
    assert here["CPUS-ALL-REGIONS-per-project"]["needed"] == 208
    assert here["GPUS-ALL-REGIONS-per-project"]["needed"] == 8


@pytest.mark.parametrize("granted", [0, 1, 7])
def test_quota_check_exits_3_with_the_request_to_send_when_fewer_than_eight(world, capsys, granted):
    """7 is as little as 0: the VM has eight GPUs or is refused."""
    grant(world, SPOT_H100, "us-central1", granted)

    status, found, err = checked(capsys, *HERE)

    assert (status, found["enough"]) == (3, False)
    what, meaning, remedy = err.strip().splitlines()
    assert f"{SPOT_H100} is {granted}, 8 are needed" in what
    assert "nothing is billed" in meaning
    assert remedy.startswith("Try: mayfly quota request kimi-k2.5 --machine a3-highgpu-8g")


def test_quota_check_exits_3_when_only_the_global_limit_is_short(world, capsys):
    """GPUS_ALL_REGIONS is 0 or 1 in a new project, and no other region helps."""
    world.of(Quotas).limits["GPUS-ALL-REGIONS-per-project"] = [({}, 1)]

    status, _, err = checked(capsys)

    assert status == 3
    assert "GPUS-ALL-REGIONS-per-project is 1, 8 are needed" in err


def test_quota_check_takes_another_limit_when_it_is_on_demand(world, capsys):
    """A grant for Spot is none for on-demand, and the other way round."""
    grant(world, SPOT_H100, "us-central1", 0)

    status, found, _ = checked(capsys, *HERE, "--provisioning", "on-demand")

    assert status == 0
    assert "GPUS-PER-GPU-FAMILY-per-project-region" in str(found["regions"])


def test_quota_check_prints_a_table_when_people_read_it(world, capsys):
    """The first thing that a user of a new project looks at."""
    assert main(["quota", "check", "kimi-k2.5"]) == 0

    said = capsys.readouterr()
    assert "Enough for a3-highgpu-8g as spot in: us-central1" in said.err
    assert "not listed" in said.out  # of a region that Cloud Quotas says nothing about


def test_quota_check_names_the_api_when_it_is_off(world, capsys):
    """A new project has it off: the bare 403 reads like a missing right."""
    world.of(Services).on.discard("cloudquotas.googleapis.com")

    assert main(["quota", "check", "kimi-k2.5"]) == 1

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert lines[0] == "The API cloudquotas.googleapis.com is off in project proj."
    assert "gcloud services enable cloudquotas.googleapis.com --project proj" in lines[2]


def test_quota_check_names_the_project_when_it_does_not_exist(world, capsys):
    """A typo in the project is not a missing right either."""
    os.environ["GOOGLE_PROJECT"] = "prj"

    assert main(["quota", "check", "kimi-k2.5"]) == 1

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "project prj" in lines[0]
    assert "gcloud projects list" in lines[2]


def test_quota_request_asks_for_what_is_short_once_when_it_is_repeated(world, capsys):
    """Whoever asks every day must not leave a request a day."""
    grant(world, SPOT_H100, "us-central1", 1)
    words = ["quota", "request", "kimi-k2.5", *HERE, "--email", "ann@example.com", "--yes"]

    first = main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)["requests"]
    again = main(words)

    preferences = list(world.of(Quotas).preferences.values())
    assert (first, again) == (3, 3)
    assert [(r["quota_id"], r["asked"], r["granted"]) for r in told] == [(SPOT_H100, 8, 1)]
    assert [p["quotaConfig"]["preferredValue"] for p in preferences] == ["8"]
    assert preferences[0]["contactEmail"] == "ann@example.com"
    assert preferences[0]["dimensions"] == {"region": "us-central1"}


def test_quota_request_raises_an_earlier_request_when_it_asks_for_less(world, capsys):
    """Google refuses a second request for the same limit."""
    grant(world, SPOT_H100, "us-central1", 1)
    words = ["quota", "request", "kimi-k2.5", *HERE, "--email", "ann@example.com", "--yes"]
    main(words)
    for held in world.of(Quotas).preferences.values():
        held["quotaConfig"]["preferredValue"] = "2"

    assert main(words) == 3

    (held,) = world.of(Quotas).preferences.values()
    assert held["quotaConfig"]["preferredValue"] == "8"


def test_quota_request_sends_nothing_when_it_is_enough_or_nobody_confirms(world, capsys):
    """It is a letter to Google: never by accident."""
    enough = main(["quota", "request", "kimi-k2.5", *HERE])
    grant(world, SPOT_H100, "us-central1", 1)
    nobody = main(["quota", "request", "kimi-k2.5", *HERE, "--email", "a@example.com"])
    no_address = main(["quota", "request", "kimi-k2.5", *HERE, "--yes"])
    no_region = main(["quota", "request", "kimi-k2.5", "--yes"])

    assert (enough, nobody, no_address, no_region) == (0, 2, 2, 2)
    assert world.of(Quotas).preferences == {}
    assert "--region is missing" in capsys.readouterr().err


def test_quota_request_says_granted_when_google_has_granted_it(world, capsys):
    """The same command tells what came of it: 0 at last."""
    grant(world, SPOT_H100, "us-central1", 1)
    words = ["quota", "request", "kimi-k2.5", *HERE, "--email", "ann@example.com", "--yes"]
    main(words)
    grant(world, SPOT_H100, "us-central1", 8)

    assert main(words) == 0
    assert "has enough for a3-highgpu-8g" in capsys.readouterr().err


def test_quota_list_shows_limits_and_requests_when_asked_for_json(world, capsys):
    """What is waiting is told beside what there is."""
    grant(world, SPOT_H100, "us-central1", 1)
    main(["quota", "request", "kimi-k2.5", *HERE, "--email", "ann@example.com", "--yes"])
    (held,) = world.of(Quotas).preferences.values()
    held["reconciling"] = True
    capsys.readouterr()

    assert main(["quota", "list", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    one = {"quota_id": SPOT_H100, "dimensions": {"region": "us-central1"}, "limit": 1}
    assert one in found["limits"]
    assert [(r["asked"], r["state"]) for r in found["requests"]] == [(8, "waiting")]


def test_limit_is_the_most_particular_entry_when_several_fit():
    """A default of 0 for the other regions must not hide a grant, nor a grant elsewhere count."""
    entry = quota.Limit
    limits = {
        "Q": [
            entry(dimensions={}, regions=("us-east4", "us-west1"), value=0),
            entry(dimensions={"region": "us-central1"}, regions=("us-central1",), value=8),
            entry(dimensions={"zone": "us-central1-a"}, regions=(), value=-1),
        ]
    }

    def limit(region: str) -> int | None:
        need = quota.Need(quota_id="Q", dimensions={"region": region}, least=8)
        return quota.limit(limits, need)

    assert (limit("us-central1"), limit("us-east4"), limit("europe-west4")) == (8, 0, None)


def test_unlimited_is_never_short_when_many_are_needed():
    """Google writes it as -1, which is less than 8."""
    need = quota.Need(quota_id="Q", dimensions={}, least=8)

    assert not quota.Finding(need, quota.UNLIMITED).short
    assert not quota.Finding(need, None).short
    assert quota.Finding(need, 7).short


def test_every_gpu_machine_has_a_quota_family_when_it_is_offered():
    """A machine that is added without one would end in a KeyError."""
    for name in GPU_MACHINES:
        found = quota.needs(MACHINES[name], "spot", "us-central1")
        assert found[0].least == MACHINES[name].gpus
    assert quota.BOOT_DISK_GB == BOOT_DISK_GB


def test_capacity_ranks_zones_and_prices_them_when_google_answers(world, capsys):
    """The ladder's order, as a person would choose it."""
    world.change_settings({"obtainability": "us-central1-b=0.91,us-central1-a=0.05"})

    assert main(["capacity", "kimi-k2.5", "--region", "us-central1", "--json"]) == 0

    zones = json.loads(capsys.readouterr().out)["zones"]
    assert zones[0]["zone"] == "us-central1-b"
    assert zones[-1]["zone"] == "us-central1-a"
    assert zones[0]["obtainability"] == 0.91
    assert zones[0]["usd_per_h"] > 0
    assert 0 <= zones[0]["preemption_rate"] <= 1
    assert zones[0]["table_date"]


def test_capacity_exits_3_when_google_sees_no_chance_anywhere(world, capsys):
    """Nobody should wait for what is not there."""
    world.change_settings({"obtainability": ",".join(f"us-central1-{z}=0" for z in "abc")})

    assert main(["capacity", "kimi-k2.5", "--region", "us-central1"]) == 3

    said = capsys.readouterr()
    assert "no chance for a spot a3-highgpu-8g in any of 3 zones" in said.err
    assert "0.00" in said.out


def test_capacity_shows_the_others_when_one_zone_has_no_answer(world, capsys):
    """One refusal must not hide the zone that has room."""
    fault = {"fault": "bad-request-http-400", "method": "compute.advice.capacity"}
    world.faults.order(fault | {"times": 1})

    assert main(["capacity", "kimi-k2.5", "--region", "us-central1", "--json"]) == 0

    zones = json.loads(capsys.readouterr().out)["zones"]
    assert [z["obtainability"] is None for z in zones] == [False, False, True]
    assert "400" in zones[-1]["problem"]


def test_capacity_fails_with_googles_reason_when_no_zone_has_an_answer(world, capsys):
    """Rows of question marks would read as bad luck."""
    fault = {"fault": "permission-http-403", "method": "compute.advice.*", "times": 0}
    world.faults.order(fault)

    assert main(["capacity", "kimi-k2.5", "--region", "us-central1"]) == 1
    assert "Required 'compute.instances.create' permission" in capsys.readouterr().err
