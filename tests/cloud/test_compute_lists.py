"""Lists: filters, pages, order and the aggregated form."""

import pytest

from local.rest.compute.filters import matches, parse
from local.rest.errors import ApiError
from tests.cloud.conftest import ZONE, message, spot_vm

VM = {
    "name": "mayfly-one",
    "id": "7",
    "status": "RUNNING",
    "labels": {"mayfly": "session", "mayfly-session": "one"},
    "scheduling": {"preemptible": True},
    "creationTimestamp": "2026-11-23T07:00:00.000-08:00",
    "networkInterfaces": [{"networkIP": "10.0.0.2"}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labels.mayfly=session", True),
        ("labels.mayfly = seed", False),
        ('labels.mayfly-session="one" AND status=RUNNING', True),
        ("(labels.mayfly=session) (status=TERMINATED)", False),
        ("labels.mayfly=seed OR labels.mayfly=session", True),
        ("labels.mayfly:*", True),
        ("labels.gone:*", False),
        ("NOT labels.gone:*", True),
        ("status != TERMINATED", True),
        ("labels.gone != x", True),
        ("scheduling.preemptible = true", True),
        ("name eq mayfly-.*", True),
        ("name eq mayfly", False),
        ("name ne mayfly", True),
        ("id > 5", True),
        ("id > 50", False),
        ('creationTimestamp > "2026-11-22"', True),
        ("creationTimestamp < 2026-11-23T06:00:00.000-08:00", False),
        ("networkInterfaces.networkIP = 10.0.0.2", True),
        ("labels.mayfly=seed AND status=RUNNING OR name=mayfly-one", True),
    ],
)
def test_filter_tells_what_matches(text, expected):
    """The reaper must see all of its VMs and no other."""
    assert expected is matches(parse(text), VM)


@pytest.mark.parametrize("text", ["labels.mayfly", "=", "(name=x", "name=x)", "name ~ x", "a="])
def test_filter_is_refused_when_it_does_not_parse(text):
    """A filter read as "everything" would let a reaper delete strangers."""
    with pytest.raises(ApiError, match="Invalid list filter expression"):
        parse(text)


@pytest.fixture
def three(api):
    """Three VMs in two zones."""
    for name, zone in (("a", "us-central1-a"), ("b", "us-central1-a"), ("c", "us-east5-a")):
        body = spot_vm(
            name=name,
            machineType=f"zones/{zone}/machineTypes/a3-highgpu-8g",
            labels={"mayfly": "session" if name != "b" else "seed"},
        )
        status, answer = api.post(f"/compute/v1/projects/proj/zones/{zone}/instances", body)
        assert status == 200, answer
    return api


def test_aggregated_list_names_every_zone_and_filters(three):
    """Empty scopes carry a warning, as at Google; a reader must not trip over it."""
    path = "/compute/v1/projects/proj/aggregated/instances?filter=labels.mayfly=session"

    _, answer = three.get(path)

    scopes = answer["items"]
    assert [i["name"] for i in scopes["zones/us-central1-a"]["instances"]] == ["a"]
    assert [i["name"] for i in scopes["zones/us-east5-a"]["instances"]] == ["c"]
    assert scopes["zones/us-west1-a"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_aggregated_list_comes_in_pages(three):
    """A reader that forgets the token misses VMs that cost money."""
    path = "/compute/v1/projects/proj/aggregated/instances?maxResults=2"

    _, first = three.get(path)
    _, second = three.get(f"{path}&pageToken={first['nextPageToken']}")

    def names(page):
        return [i["name"] for s in page["items"].values() for i in s.get("instances", [])]

    assert (names(first), names(second)) == (["a", "b"], ["c"])
    assert "nextPageToken" not in second


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("maxResults=501", "'maxResults': '501'"),
        ("pageToken=nonsense", "'pageToken'"),
        ("orderBy=colour", "'orderBy'"),
        ("filter=broken", "'filter'"),
    ],
)
def test_list_is_refused_when_the_query_is_wrong(api, query, text):
    """Each parameter by its own name."""
    status, answer = api.get(f"{ZONE}/instances?{query}")

    assert status == 400
    assert text in message(answer)


def test_operations_are_listed_over_all_scopes_newest_first(three):
    """The ledger reads the truth here, by instance id."""
    _, vm = three.get(f"{ZONE}/instances/a")
    three("DELETE", f"{ZONE}/instances/a")

    _, answer = three.get(
        f"/compute/v1/projects/proj/aggregated/operations?filter=targetId={vm['id']}"
    )

    found = answer["items"]["zones/us-central1-a"]["operations"]
    assert [o["operationType"] for o in found] == ["delete", "insert"]
    assert {vm["id"]} == {o["targetId"] for o in found}


def test_operations_are_found_waited_for_and_forgotten(api):
    """The whole small surface of operations."""
    _, operation = api.insert()
    path = f"{ZONE}/operations/{operation['name']}"

    assert api.get(path)[1]["status"] == "DONE"
    assert api.post(f"{path}/wait")[1]["status"] == "DONE"
    assert operation["name"] == api.get(f"{ZONE}/operations/{operation['id']}")[1]["name"]
    assert api("DELETE", path)[0] == 200
    assert api.get(path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "zones",
        "regions",
        "global/networks",
        "global/firewalls",
        "aggregated/subnetworks",
        "aggregated/disks",
        "aggregated/routers",
        "aggregated/addresses",
        "aggregated/machineTypes?maxResults=500",
        "zones/us-central1-a/machineTypes",
        "zones/us-central1-a/disks",
        "zones/us-central1-a/diskTypes/pd-ssd",
        "zones/us-central1-a/acceleratorTypes/nvidia-h100-80gb",
        "regions/us-central1/routers",
        "regions/us-central1/addresses",
        "regions/us-central1/subnetworks",
        "regions/us-central1/operations",
        "global/operations",
    ],
)
@pytest.mark.parametrize("version", ["v1", "beta"])
def test_every_list_answers_what_its_document_describes(three, version, path):
    """An answer with a field that the document lacks is refused on its way out."""
    status, answer = three.get(f"/compute/{version}/projects/proj/{path}")

    assert status == 200, answer
    assert answer["kind"].startswith("compute#")
