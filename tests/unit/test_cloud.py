"""The door to Google: what goes over the wire, what is repeated, what a refusal says."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.rest.function_metadata import FunctionMetadata
from local.rest.world import World
from mayfly.cloud import Blob, Cloud, CloudError, connect
from mayfly.cloud.endpoints import base_url
from mayfly.cloud.http import Retry
from tests.unit.scripted import Reply, Scripted

REFUSED = {
    "error": {
        "code": 403,
        "message": "Quota 'GPUS_ALL_REGIONS' exceeded.\n  Limit: 0.0 globally",
        "errors": [{"reason": "quotaExceeded"}],
    }
}


@pytest.fixture
def google() -> Iterator[Scripted]:
    with Scripted() as server:
        yield server


@pytest.fixture
def cloud(google: Scripted) -> Cloud:
    for product in ("COMPUTE", "STORAGE", "SECRET_MANAGER", "CLOUD_SCHEDULER", "CLOUD_QUOTAS"):
        path = {"COMPUTE": "compute/beta/", "STORAGE": "storage/storage/v1/"}.get(product, "v1/")
        os.environ[f"GOOGLE_{product}_CUSTOM_ENDPOINT"] = google.url + path
    return connect("proj", Retry(tries=3, first_delay_s=0.001))


def test_base_url_is_the_custom_endpoint_when_the_providers_variable_is_set():
    """Program and commands must move together, or one of them spends money elsewhere."""
    moved = {"GOOGLE_COMPUTE_CUSTOM_ENDPOINT": "http://127.0.0.1:1/compute/beta"}

    assert base_url("compute", moved) == "http://127.0.0.1:1/compute/beta/"
    assert base_url("compute", {}) == "https://compute.googleapis.com/compute/v1/"


def test_base_url_keeps_its_own_version_when_the_provider_drops_the_given_one():
    """The provider's value for this product ends in v1beta1, its calls go to v1."""
    moved = {"GOOGLE_SERVICE_USAGE_CUSTOM_ENDPOINT": "http://127.0.0.1:1/x/v1beta1/"}

    assert base_url("services", moved) == "http://127.0.0.1:1/x/v1/"


def test_instances_follows_pages_and_asks_for_partial_success(cloud: Cloud, google: Scripted):
    """One zone that is down must not hide the VMs of all others."""
    google.replies = [
        Reply(
            body={
                "items": {
                    "zones/a": {"instances": [{"id": "1"}]},
                    "zones/b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
                },
                "nextPageToken": "more",
            }
        ),
        Reply(body={"items": {"zones/b": {"instances": [{"id": "2"}]}}}),
    ]

    found = list(cloud.compute.instances("labels.mayfly:*"))

    assert [vm["id"] for vm in found] == ["1", "2"]
    assert google.asked[0].path == "/compute/beta/projects/proj/aggregated/instances"
    assert google.asked[0].query == {"filter": "labels.mayfly:*", "returnPartialSuccess": "true"}
    assert google.asked[1].query["pageToken"] == "more"
    assert google.asked[0].headers["Authorization"] == "Bearer fake"
    assert cloud.calls == 2


def test_instance_is_none_when_google_answers_404(cloud: Cloud, google: Scripted):
    """Gone is an answer, not a failure."""
    google.replies = [Reply(404, {"error": {"code": 404, "message": "not found"}})]

    assert cloud.compute.instance("us-east5-a", "mayfly-dev") is None


def test_read_is_repeated_when_google_answers_503_or_drops(cloud: Cloud, google: Scripted):
    """A hiccup must not end a tick of the reaper."""
    google.replies = [Reply(503), Reply(drop=True), Reply(body={"id": "7"})]

    assert cloud.compute.instance("z", "n") == {"id": "7"}
    assert len(google.asked) == 3


def test_read_stops_trying_when_google_never_recovers(cloud: Cloud, google: Scripted):
    """Every loop ends: the caller decides what an outage means."""
    google.replies = [Reply(500), Reply(500), Reply(500)]

    with pytest.raises(CloudError) as caught:
        cloud.compute.instance("z", "n")

    assert caught.value.status == 500
    assert len(google.asked) == 3


def test_scheduler_run_is_not_repeated_when_it_fails(cloud: Cloud, google: Scripted):
    """A lost answer may hide a run that happened; a second one is not ours to start."""
    google.replies = [Reply(503)]

    with pytest.raises(CloudError):
        cloud.scheduler.run("projects/proj/locations/l/jobs/reaper")

    assert [asked.path for asked in google.asked] == [
        "/v1/projects/proj/locations/l/jobs/reaper:run"
    ]


def test_refusal_names_call_reason_and_text_on_one_line(cloud: Cloud, google: Scripted):
    """A 403 alone decides nothing: what to do next is read from its reason and text."""
    google.replies = [Reply(403, REFUSED)]

    with pytest.raises(CloudError) as caught:
        cloud.compute.delete_instance("z", "42")

    error = caught.value
    assert (error.status, error.reason, error.body) == (403, "quotaExceeded", REFUSED)
    assert "instances/42: 403 quotaExceeded: Quota 'GPUS_ALL_REGIONS' exceeded." in error.message
    assert "\n" not in error.message


def test_unreachable_google_is_a_cloud_error_when_nothing_listens():
    """No traceback of a library for a laptop that is offline."""
    os.environ["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] = "http://127.0.0.1:9/compute/v1/"

    with pytest.raises(CloudError, match="no answer") as caught:
        connect("proj", Retry(tries=1)).compute.instance("z", "n")

    assert (caught.value.status, caught.value.reason) == (0, "unreachable")


def test_connect_names_the_remedy_when_there_are_no_credentials(tmp_path: Path):
    """The commonest first failure of a new user."""
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(tmp_path / "none.json")

    with pytest.raises(CloudError, match="gcloud auth application-default login") as caught:
        connect("proj")

    assert caught.value.reason == "no-credentials"
    assert "\n" not in caught.value.message


ASK = """
from mayfly.cloud import CloudError, connect
from mayfly.cloud.http import Retry
import socket
asked = []
plain = socket.getaddrinfo
def watched(host, *rest, **more):
    asked.append(host)
    if host != "127.0.0.1":
        raise OSError(f"{host} is not loopback")
    return plain(host, *rest, **more)
socket.getaddrinfo = watched
try:
    cloud = connect("proj", Retry(tries=1))
    print(cloud.compute.instance("z", "n"), cloud.compute.instance("z", "n"))
    print(*sorted(set(asked)))
except CloudError as error:
    print(error)
"""


def ask_as_a_function(metadata: str, tmp_path: Path) -> str:
    """In a process of its own: google.auth reads GCE_METADATA_HOST when it is imported."""
    env = {**os.environ, "GCE_METADATA_HOST": metadata, "CLOUDSDK_CONFIG": str(tmp_path)}
    del env["GOOGLE_OAUTH_ACCESS_TOKEN"], env["GCE_METADATA_IP"], env["HTTPS_PROXY"]
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=120, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.usefixtures("cloud")
def test_metadata_server_gives_the_token_when_there_is_no_other(google: Scripted, tmp_path: Path):
    """In the function its own account signs; GCE_METADATA_HOST says where to ask for it."""
    world = World()
    metadata = FunctionMetadata(world, "reaper@proj.iam.gserviceaccount.com", "us-east5")
    google.replies = [Reply(body={"id": "7"}), Reply(body={"id": "8"})]

    found = ask_as_a_function(metadata.host, tmp_path)
    metadata.stop()

    assert found == "{'id': '7'} {'id': '8'}\n127.0.0.1", "nothing but loopback was looked up"
    token = google.asked[0].headers["Authorization"].removeprefix("Bearer ")
    assert world.identity.access(token).email == "reaper@proj.iam.gserviceaccount.com"


def test_delete_instance_is_none_when_the_vm_is_gone(cloud: Cloud, google: Scripted):
    """Two ticks at once both send the delete; the second finds nothing, which is success."""
    google.replies = [Reply(body={"name": "operation-1"}), Reply(404)]

    assert cloud.compute.delete_instance("z", "42") == "operation-1"
    assert cloud.compute.delete_instance("z", "42") is None


def test_guest_attributes_come_without_their_namespace(cloud: Cloud, google: Scripted):
    """The rule in mayfly.idle reads plain keys."""
    items = [{"namespace": "mayfly", "key": "phase", "value": "serving"}]
    google.replies = [Reply(body={"queryValue": {"items": items}}), Reply(404)]

    assert cloud.compute.guest_attributes("z", "n", "mayfly/") == {"phase": "serving"}
    assert cloud.compute.guest_attributes("z", "n", "mayfly/") is None
    assert google.asked[0].query == {"queryPath": "mayfly/"}


def test_serial_output_goes_on_where_it_stopped(cloud: Cloud, google: Scripted):
    """Google writes these numbers as strings."""
    google.replies = [Reply(body={"contents": "hello", "start": "3", "next": "8"})]

    assert cloud.compute.serial_output("z", "n", 3) == ("hello", 8)
    assert google.asked[0].query == {"port": "1", "start": "3"}


def test_storage_get_returns_bytes_and_generation(cloud: Cloud, google: Scripted):
    """The generation is what makes the next write safe."""
    google.replies = [Reply(body=b"data", headers={"x-goog-generation": "12"}), Reply(404)]

    assert cloud.storage.get("b", "leases/dev") == Blob(b"data", 12)
    assert cloud.storage.get("b", "leases/dev") is None
    assert google.asked[0].path == "/storage/storage/v1/b/b/o/leases/dev"
    assert google.asked[0].query == {"alt": "media"}


def test_storage_put_uploads_to_the_hosts_own_place_with_its_precondition(
    cloud: Cloud, google: Scripted
):
    """if-generation-match 0 is what writes a ledger entry exactly once."""
    google.replies = [Reply(body={"generation": "5"}), Reply(412)]

    assert cloud.storage.put("b", "ledger/1.json", b"{}", if_generation_match=0) == 5
    assert cloud.storage.put("b", "ledger/1.json", b"{}", if_generation_match=0) is None
    assert google.asked[0].path == "/upload/storage/v1/b/b/o"
    assert google.asked[0].query == {
        "uploadType": "media",
        "name": "ledger/1.json",
        "ifGenerationMatch": "0",
    }
    assert len(google.asked) == 2


@pytest.mark.parametrize(("there", "expected"), [(b"mine", 8), (b"theirs", None)])
def test_storage_put_looks_who_wrote_when_its_answer_was_lost(
    cloud: Cloud, google: Scripted, there: bytes, expected: int | None
):
    """A repeat that meets its own first try must not read as "somebody else holds the lease"."""
    google.replies = [
        Reply(drop=True),
        Reply(412),
        Reply(body=there, headers={"x-goog-generation": "8"}),
    ]

    assert cloud.storage.put("b", "n", b"mine", if_generation_match=0) == expected


def test_storage_delete_says_false_when_the_object_changed(cloud: Cloud, google: Scripted):
    """A lock that was renewed in between is live: it stays."""
    google.replies = [Reply(204, b""), Reply(404), Reply(412)]

    results = [cloud.storage.delete("b", "n", if_generation_match=3) for _ in range(3)]

    assert results == [True, True, False]
    assert google.asked[0].query == {"ifGenerationMatch": "3"}


def test_storage_list_follows_pages(cloud: Cloud, google: Scripted):
    """A second page of locks counts as much as the first."""
    google.replies = [
        Reply(body={"items": [{"name": "a"}], "nextPageToken": "t"}),
        Reply(body={"items": [{"name": "b"}]}),
    ]

    assert [item["name"] for item in cloud.storage.list("b", "p/")] == ["a", "b"]
    assert google.asked[1].query == {"prefix": "p/", "pageToken": "t"}


def test_storage_reads_a_part_of_an_object_when_a_range_is_asked_for(
    cloud: Cloud, google: Scripted
):
    """A header of 600 GB is a megabyte; what lies beyond the end is nothing, and no failure."""
    google.replies = [Reply(206, body=b"art"), Reply(416), Reply(404)]

    assert cloud.storage.read("b", "x", 1, 4) == b"art"
    assert cloud.storage.read("b", "x", 9, 12) == b""
    assert cloud.storage.read("b", "y", 0, 8) is None
    assert google.asked[0].headers["Range"] == "bytes=1-3"


def test_storage_download_gives_the_digest_of_what_it_wrote(
    cloud: Cloud, google: Scripted, tmp_path: Path
):
    """The engine's archives are checked before anything in them runs."""
    google.replies = [Reply(body=b"archive"), Reply(404)]

    digest = cloud.storage.download("b", "engine/x.tar.gz", tmp_path / "x")

    assert digest == hashlib.sha256(b"archive").hexdigest()
    assert (tmp_path / "x").read_bytes() == b"archive"
    assert cloud.storage.download("b", "engine/y", tmp_path / "y") is None


def test_storage_download_raises_when_the_transfer_breaks_off(
    cloud: Cloud, google: Scripted, tmp_path: Path
):
    """Half an archive must not pass for a whole one."""
    google.replies = [Reply(body=b"archive", cut=True)]

    with pytest.raises(CloudError, match="broke off"):
        cloud.storage.download("b", "x", tmp_path / "x")


def test_secret_is_decoded_and_none_when_missing(cloud: Cloud, google: Scripted):
    """Newest version unless one is named."""
    google.replies = [Reply(body={"payload": {"data": "a2V5"}}), Reply(404)]

    assert cloud.secrets.access("projects/p/secrets/s") == "key"
    assert cloud.secrets.access("projects/p/secrets/s/versions/2") is None
    assert google.asked[0].path == "/v1/projects/p/secrets/s/versions/latest:access"
    assert google.asked[1].path == "/v1/projects/p/secrets/s/versions/2:access"


def test_ask_speaks_to_any_product(cloud: Cloud, google: Scripted):
    """A read that is rare needs no method of its own."""
    google.replies = [Reply(body={"quotaInfos": []}), Reply(404)]

    assert cloud.ask("GET", "quotas", "projects/p/quotaInfos") == {"quotaInfos": []}
    assert cloud.ask("GET", "quotas", "projects/p/none") is None
    assert google.asked[0].path == "/v1/projects/p/quotaInfos"


def test_door_leaves_heavy_libraries_out_when_a_token_is_given():
    """`mayfly status` has a second in all; signing machinery is a quarter of it."""
    code = "import sys, mayfly.cloud as c; c.connect('p'); print(*sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    loaded = set(result.stdout.split())
    assert "requests" in loaded
    assert not [name for name in loaded if re.match(r"google\.auth|cryptography|pulumi", name)]


def test_answer_that_is_not_json_is_a_cloud_error(cloud: Cloud, google: Scripted):
    """A captive portal answers 200 with a page."""
    google.replies = [Reply(body=b"<html>Log in to the hotel</html>")]

    with pytest.raises(CloudError, match="not JSON") as caught:
        cloud.compute.instance("z", "n")

    assert (caught.value.status, caught.value.reason) == (200, "not-json")
