"""Inputs become calls, answers become state, failures become the real provider's words."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from local.provider.client import WAITS_S
from local.provider.google import Google
from local.provider.handlers.service import Service
from local.provider.messages import PartlyDoneError, RefusedError
from local.provider.values import Secret, plain
from tests.provider.conftest import Together, asking, configured
from tests.provider.playback import DROP, Playback

NETWORK = "gcp:compute/network:Network"
INSTANCE = "gcp:compute/instance:Instance"
ZONE = "/compute/beta/projects/proj/zones/us-central1-a"
VM = {
    "name": "mayfly-dev",
    "zone": "us-central1-a",
    "machineType": "a3-highgpu-8g",
    "bootDisk": {"initializeParams": {"image": "projects/p/global/images/i"}},
    "networkInterfaces": [{"network": "default"}],
}
LINK = "https://www.googleapis.com/compute/v1/projects/proj/zones/us-central1-a"
ANSWER: dict[str, Any] = {
    "id": "42",
    "name": "mayfly-dev",
    "status": "RUNNING",
    "zone": LINK,
    "machineType": f"{LINK}/machineTypes/a3-highgpu-8g",
    "selfLink": f"{LINK}/instances/mayfly-dev",
    "disks": [{"boot": True, "source": f"{LINK}/disks/mayfly-dev", "autoDelete": True}],
    "networkInterfaces": [{"name": "nic0"}],
    "metadata": {"fingerprint": "m"},
    "tags": {"fingerprint": "t"},
    "scheduling": {"maxRunDuration": {"seconds": "3600"}},
    "labels": {"goog-pulumi-provisioned": "true"},
    "labelFingerprint": "l",
}
DISK = {"name": "mayfly-dev", "sizeGb": "200", "sourceImage": "projects/p/global/images/i"}
LOOK = f"{ZONE}/instances/mayfly-dev?alt=json&view=FULL"


def error(status: int, message: str, reason: str) -> dict[str, Any]:
    """An error as Google's older APIs answer it."""
    entry = {"message": message, "domain": "global", "reason": reason}
    return {"error": {"code": status, "message": message, "errors": [entry]}}


def made(provider: Google) -> dict[str, Any]:
    return plain(provider.create(asking(INSTANCE, inputs=VM))[1])


def record_vm(playback: Playback, *, looks: int = 2, status: str = "RUNNING") -> None:
    """Answers for one successful creation."""
    playback.add("POST", f"{ZONE}/instances?alt=json", {"name": "op-1", "status": "RUNNING"})
    playback.add("GET", f"{ZONE}/operations/op-1?alt=json", {"name": "op-1", "status": "DONE"})
    for _ in range(looks):
        playback.add("GET", LOOK, {**ANSWER, "status": status})
    playback.add("GET", f"{ZONE}/disks/mayfly-dev?alt=json", DISK)


def test_instance_is_watched_until_it_runs_when_it_is_made(
    playback: Playback, provider: Google
) -> None:
    """`up` must not go on to readiness with a VM that is still being staged."""
    record_vm(playback, looks=0)
    for status in ("PROVISIONING", "STAGING", "RUNNING", "RUNNING"):
        playback.add("GET", LOOK, {**ANSWER, "status": status})

    state = made(provider)

    assert provider._sleep.seconds == [5, 2, 4]  # type: ignore[attr-defined]
    assert state["scheduling"]["maxRunDuration"] == {"nanos": 0, "seconds": 3600}
    assert state["instanceId"] == "42"
    assert [a.path for a in playback.asked if "operations" in a.path]


def test_instance_state_hides_keys_when_it_is_read_back(
    playback: Playback, provider: Google
) -> None:
    """`boot_disk` as a whole is secret in the real provider; a program that prints it must learn
    so here."""
    record_vm(playback)
    _, state = provider.create(asking(INSTANCE, inputs=VM))

    assert isinstance(state["bootDisk"]["diskEncryptionKeyRaw"], Secret)
    assert isinstance(state["effectiveLabels"], Secret)


def test_instance_is_lost_when_it_vanishes_before_it_runs(
    playback: Playback, provider: Google
) -> None:
    """A VM that GCE takes back at once must end the wait, and leave nothing in state."""
    record_vm(playback, looks=0)
    for _ in range(21):
        playback.add("GET", LOOK, error(404, "was not found", "notFound"), 404)

    with pytest.raises(RefusedError) as refused:
        made(provider)

    assert str(refused.value) == (
        "1 error occurred:\n\t* Error waiting for status: Error waiting for instance to reach "
        "desired status RUNNING: couldn't find resource (21 retries)\n\n"
    )
    assert provider._sleep.seconds == [5, 2, 4, 8, *[10] * 17]  # type: ignore[attr-defined]


def test_create_prints_two_diagnostics_when_it_fails(playback: Playback, provider: Google) -> None:
    """The ladder reads the second one; the first, with its own prefix, is there to confuse it as
    in real life."""
    body = error(403, "Quota 'X' exceeded.  Limit: 0.0 in region r.", "quotaExceeded")
    playback.add("POST", f"{ZONE}/instances?alt=json", body, 403)

    with pytest.raises(RefusedError) as refused:
        made(provider)

    text = (
        "Error creating instance: googleapi: Error 403: Quota 'X' exceeded.  "
        "Limit: 0.0 in region r., "
        "quotaExceeded"
    )
    assert str(refused.value) == f"1 error occurred:\n\t* {text}\n\n"
    assert provider._log.errors == [  # type: ignore[attr-defined]
        f"  sdk-v2/provider2.go:571: sdk.helper_schema: {text}: provider=google-beta@10.2.0"
    ]


def test_create_tries_again_when_google_is_busy(playback: Playback, provider: Google) -> None:
    """503 and 429 are retried in growing steps; the VM made by the first try then shows as a
    409."""
    busy = error(503, "The service is currently unavailable.", "backendError")
    exists = error(409, "The resource 'x' already exists", "alreadyExists")
    for body, status in (
        (busy, 503),
        (error(429, "slow", "rateLimitExceeded"), 429),
        (exists, 409),
    ):
        playback.add("POST", f"{ZONE}/instances?alt=json", body, status)

    with pytest.raises(
        RefusedError, match="Error 409: The resource 'x' already exists, alreadyExists"
    ):
        made(provider)

    assert provider._sleep.seconds == [0.5, 1.0]  # type: ignore[attr-defined]
    assert len(playback.asked) == 3


def test_create_gives_up_when_google_stays_busy(playback: Playback, provider: Google) -> None:
    """Bounded: 32 tries in some 330 s, then the error itself."""
    busy = error(503, "The service is currently unavailable.", "backendError")
    for _ in range(40):
        playback.add("POST", f"{ZONE}/instances?alt=json", busy, 503)

    with pytest.raises(
        RefusedError, match=r"Error 503: The service is currently unavailable\., backendE"
    ):
        made(provider)

    assert len(playback.asked) == 32
    assert 300 < sum(WAITS_S) < 340


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "rateLimitExceeded"), (400, "invalid"), (412, "conditionNotMet")]
)
def test_create_is_not_repeated_when_the_answer_is_final(
    playback: Playback, provider: Google, status: int, reason: str
) -> None:
    """A second insert after a refusal is a second bill waiting to happen."""
    body = error(status, "no", reason)
    playback.add("POST", f"{ZONE}/instances?alt=json", body, status)

    with pytest.raises(RefusedError, match=f"googleapi: Error {status}: no, {reason}"):
        made(provider)

    assert len(playback.asked) == 1


def test_create_is_not_repeated_when_the_connection_drops(
    playback: Playback, provider: Google
) -> None:
    """The VM may exist: only a look can tell, never a retry."""
    playback.add("POST", f"{ZONE}/instances?alt=json", DROP)

    with pytest.raises(
        RefusedError, match=r'Error creating instance: Post "http://.*/instances\?alt=json": EOF'
    ):
        made(provider)


def test_create_fails_when_nobody_answers(playback: Playback) -> None:
    """The stand-in keeps no state of its own: without the REST API there is no cloud."""
    playback.url = "http://127.0.0.1:9"
    provider = configured(playback)

    with pytest.raises(RefusedError, match="connect: connection refused"):
        made(provider)


def test_create_is_refused_when_no_endpoint_is_set(playback: Playback) -> None:
    """Whatever else goes wrong, a stand-in must never speak to Google."""
    import os

    provider = configured(playback)
    for name in [n for n in os.environ if n.endswith("_CUSTOM_ENDPOINT")]:
        del os.environ[name]
    provider.configure({})

    with pytest.raises(RefusedError, match="GOOGLE_COMPUTE_CUSTOM_ENDPOINT is not set"):
        made(provider)
    assert playback.asked == []


def test_token_is_refused_when_there_is_no_metadata_server(playback: Playback) -> None:
    """Probing the link-local address would hang, or find somebody else's credentials."""
    import os

    provider = configured(playback)
    for name in ("GOOGLE_OAUTH_ACCESS_TOKEN", "GCE_METADATA_HOST"):
        os.environ.pop(name, None)
    provider.configure({})

    with pytest.raises(RefusedError, match="no Google credentials"):
        made(provider)
    assert playback.asked == []


def test_token_comes_from_the_metadata_server_when_none_is_given(playback: Playback) -> None:
    """The reaper runs this provider as its own service account, without a token in its
    environment."""
    import os

    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    playback.add("GET", path, {"access_token": "from-metadata", "expires_in": 3600})
    provider = configured(playback)
    del os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]
    os.environ["GCE_METADATA_HOST"] = playback.url.removeprefix("http://")
    provider.configure({})
    record_vm(playback)

    made(provider)

    assert [a.path for a in playback.asked].count(path) == 1  # asked once, then kept
    assert provider.client.token() == "from-metadata"


def test_operation_error_names_no_code_when_there_is_no_capacity(
    playback: Playback, provider: Google
) -> None:
    """Pulumi's text never holds the code or zonesAvailable: whoever parses it must live with
    that."""
    failure = {
        "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "message": "The zone does not have enough resources.",
        "errorDetails": [
            {"help": {"links": [{"description": "Troubleshooting", "url": "https://x"}]}},
            {"localizedMessage": {"locale": "en-US", "message": "Consider us-central1-b."}},
            {"errorInfo": {"metadatas": {"zonesAvailable": "us-central1-b"}}},
        ],
    }
    operation = {"name": "op", "status": "DONE", "error": {"errors": [failure]}}
    playback.add("POST", f"{ZONE}/instances?alt=json", operation)

    with pytest.raises(RefusedError) as refused:
        made(provider)

    text = str(refused.value)
    assert (
        "Error waiting for instance to create: The zone does not have enough resources.\n" in text
    )
    assert text.index("Consider us-central1-b.") < text.index("Troubleshooting\nhttps://x")
    assert "EXHAUSTED" not in text
    assert "zonesAvailable" not in text


def test_read_drops_the_resource_when_google_answers_404(
    playback: Playback, provider: Google
) -> None:
    """That is how a refresh notices a preempted VM."""
    playback.add("GET", LOOK, error(404, "not found", "notFound"), 404)
    identity = "projects/proj/zones/us-central1-a/instances/mayfly-dev"

    found = provider.read(asking(INSTANCE, resource_id=identity, old=VM, old_inputs=VM))

    assert found == ("", {}, {})


def test_read_shows_drift_in_the_inputs_when_somebody_changed_the_vm(
    playback: Playback, provider: Google
) -> None:
    """Only what moved: everything else keeps the program's own spelling, or every refresh is a
    diff."""
    old = {
        **VM,
        "project": "proj",
        "labels": {"mayfly": "session"},
        "pulumiLabels": {"mayfly": "session"},
        "networkInterfaces": [{"network": ""}],
    }
    inputs = {"__defaults": [], **VM, "labels": {"mayfly": "session"}}
    playback.add("GET", LOOK, {**ANSWER, "labels": {"mayfly": "hands"}})
    playback.add("GET", f"{ZONE}/disks/mayfly-dev?alt=json", DISK)
    identity = "projects/proj/zones/us-central1-a/instances/mayfly-dev"

    _, _, read = provider.read(asking(INSTANCE, resource_id=identity, old=old, old_inputs=inputs))

    assert read == {**inputs, "labels": {"mayfly": "hands"}}


def test_read_imports_when_only_the_id_is_known(playback: Playback, provider: Google) -> None:
    """`pulumi import` and Resource.get have no state to start from."""
    path = "/compute/beta/projects/other/global/networks/net?alt=json"
    playback.add("GET", path, {"name": "net", "autoCreateSubnetworks": True, "selfLink": "x"})

    found = provider.read(asking(NETWORK, resource_id="projects/other/global/networks/net"))

    assert found[0] == "projects/other/global/networks/net"
    assert found[2] == {
        "autoCreateSubnetworks": True,
        "deletionPolicy": "DELETE",
        "name": "net",
        "project": "other",
    }


@pytest.mark.parametrize(
    ("token", "identity", "path", "tolerant"),
    [
        (
            NETWORK,
            "projects/proj/global/networks/n",
            "/compute/beta/projects/proj/global/networks/n",
            True,
        ),
        (INSTANCE, "projects/proj/zones/us-central1-a/instances/n", f"{ZONE}/instances/n", False),
        (
            "gcp:secretmanager/secret:Secret",
            "projects/proj/secrets/n",
            "/secrets/v1/projects/proj/secrets/n",
            True,
        ),
    ],
)
def test_delete_fails_on_a_missing_resource_only_when_the_real_one_does(
    playback: Playback, provider: Google, token: str, identity: str, path: str, tolerant: bool
) -> None:
    """A VM that ended itself makes a plain destroy fail: the reaper must refresh, and tests must
    see why."""
    playback.add("DELETE", f"{path}?alt=json", error(404, "'n' was not found", "notFound"), 404)
    request = asking(token, resource_id=identity, old={"name": "n", "project": "proj"})

    if tolerant:
        provider.delete(request)
        return
    with pytest.raises(RefusedError) as refused:
        provider.delete(request)
    assert str(refused.value) == (
        f"deleting {request.urn.text}: 1 error occurred:\n\t* Error deleting instance: "
        "googleapi: Error 404: 'n' was not found, notFound\n\n"
    )


@pytest.mark.parametrize(
    ("old", "text"),
    [
        ({"deletionProtection": True}, "instance Deletion Protection is enabled"),
        ({"deletionPolicy": "PREVENT"}, 'deletion_policy is set to "PREVENT"'),
    ],
)
def test_delete_is_refused_when_the_state_protects_it(
    playback: Playback, provider: Google, old: dict[str, Any], text: str
) -> None:
    """Protection acts from state, before any call."""
    identity = "projects/proj/zones/us-central1-a/instances/n"
    with pytest.raises(RefusedError, match=text):
        provider.delete(asking(INSTANCE, resource_id=identity, old={"name": "n", **old}))
    assert playback.asked == []


def test_update_keeps_the_old_state_when_a_call_fails(playback: Playback, provider: Google) -> None:
    """The engine must try again next time, from what is really there."""
    old = {**VM, "project": "proj", "bootDisk": {"mode": "READ_WRITE"}, "tags": ["a"]}
    inputs = {**VM, "tags": ["b"], "bootDisk": {"mode": "READ_WRITE"}}
    playback.add("GET", LOOK, ANSWER)
    denied = error(403, "Required 'compute.instances.setTags' permission", "forbidden")
    playback.add("POST", f"{ZONE}/instances/mayfly-dev/setTags?alt=json", denied, 403)
    identity = "projects/proj/zones/us-central1-a/instances/mayfly-dev"

    with pytest.raises(PartlyDoneError) as partly:
        provider.update(asking(INSTANCE, resource_id=identity, old=old, inputs=inputs))

    assert partly.value.properties == old
    assert "Error 403: Required 'compute.instances.setTags' permission, forbidden" in str(
        partly.value
    )
    assert str(partly.value).startswith("updating urn:pulumi:dev::mayfly::")


def test_preview_makes_no_call_when_a_resource_is_new(playback: Playback, provider: Google) -> None:
    """A preview shows; it must not touch."""
    from local.provider.values import UNKNOWN

    _, state = provider.create(asking(INSTANCE, inputs=VM, preview=True))

    assert playback.asked == []
    assert state["project"] == "proj"
    assert state["instanceId"] is UNKNOWN
    assert state["pulumiLabels"] == Secret({"goog-pulumi-provisioned": "true"})


def policy(**more: Any) -> dict[str, Any]:
    return {"etag": "e", "version": 1, **more}


def test_iam_member_joins_the_binding_of_its_condition_when_others_are_there(
    playback: Playback, provider: Google
) -> None:
    """Somebody else's members and conditions must survive every write."""
    path = "/storage/storage/v1/b/weights/iam"
    others = [
        {"role": "roles/a", "members": ["user:x@y"]},
        {
            "role": "roles/a",
            "members": ["user:z@y"],
            "condition": {"title": "t", "expression": "e"},
        },
    ]
    ask = f"{path}?alt=json&optionsRequestedPolicyVersion=3"
    after = [{"role": "roles/a", "members": ["user:n@y", "user:x@y"]}, others[1]]
    playback.add("GET", ask, policy(bindings=others))
    playback.add("PUT", f"{path}?alt=json", {})
    for _ in range(4):
        playback.add("GET", ask, policy(bindings=after))

    token = "gcp:storage/bucketIAMMember:BucketIAMMember"
    inputs = {"bucket": "weights", "role": "roles/a", "member": "user:n@y"}
    identity, state = provider.create(asking(token, inputs=inputs))

    written = next(a.body for a in playback.asked if a.method == "PUT")
    assert written == {
        "etag": "e",
        "version": 3,
        "bindings": [
            {"role": "roles/a", "members": ["user:n@y", "user:x@y"]},
            {"role": "roles/a", "members": ["user:z@y"], "condition": others[1]["condition"]},
        ],
    }
    assert identity == "b/weights/roles/a/user:n@y"
    assert state["bucket"] == "b/weights"


def test_iam_member_reads_again_when_the_policy_changed_meanwhile(
    playback: Playback, provider: Google
) -> None:
    """A lost etag race must be run again, not reported."""
    path = "/storage/storage/v1/b/weights/iam"
    ask = f"{path}?alt=json&optionsRequestedPolicyVersion=3"
    bindings = [{"role": "roles/a", "members": ["user:n@y"]}]
    for etag in ("e1", "e2"):
        playback.add("GET", ask, {"etag": etag})
    playback.add("PUT", f"{path}?alt=json", error(412, "etag", "conditionNotMet"), 412)
    playback.add("PUT", f"{path}?alt=json", {})
    for _ in range(4):
        playback.add("GET", ask, policy(bindings=bindings))

    token = "gcp:storage/bucketIAMMember:BucketIAMMember"
    inputs = {"bucket": "weights", "role": "roles/a", "member": "user:n@y"}
    provider.create(asking(token, inputs=inputs))

    assert [a.body["etag"] for a in playback.asked if a.method == "PUT"] == ["e1", "e2"]


def test_iam_member_is_gone_when_the_policy_lacks_it(playback: Playback, provider: Google) -> None:
    """A grant taken away by hand must show as a change, not as done."""
    ask = "/storage/storage/v1/b/weights/iam?alt=json&optionsRequestedPolicyVersion=3"
    playback.add("GET", ask, policy())
    old = {"bucket": "b/weights", "role": "roles/a", "member": "user:n@y"}
    token = "gcp:storage/bucketIAMMember:BucketIAMMember"

    found = provider.read(asking(token, resource_id="x", old=old, old_inputs=old))

    assert found == ("", {}, {})


def test_services_are_enabled_in_one_call_when_several_are_asked_for(playback: Playback) -> None:
    """The real provider gathers them for 3 s; the fake must be ready for the batch form."""
    provider = configured(playback)
    provider._sleep = Together([2, 2, 2], Service._lists, Service._enables)
    provider.configure({})
    page = (
        "/serviceusage/v1/projects/proj/services?alt=json&fields=services%2Fname%2CnextPageToken"
        "&filter=state%3AENABLED&pageSize=200&prettyPrint=false"
    )
    names = ["a.googleapis.com", "b.googleapis.com"]
    enabled = {"services": [{"name": f"projects/1/services/{name}"} for name in names]}
    for answer in ({}, enabled, enabled):
        playback.add("GET", page, answer)
    enable = "/serviceusage/v1/projects/proj/services:batchEnable?alt=json&prettyPrint=false"
    playback.add("POST", enable, {"name": "operations/x", "done": True})
    for _ in names:
        playback.add("GET", "/crm/v1/projects/proj?alt=json&prettyPrint=false", {})

    def enable_one(name: str) -> None:
        inputs = {"service": name, "project": "proj"}
        provider.create(asking("gcp:projects/service:Service", name, inputs=inputs))

    threads = [threading.Thread(target=enable_one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    bodies = [a.body for a in playback.asked if a.method == "POST"]
    assert [sorted(body["serviceIds"]) for body in bodies] == [names]


def test_bucket_is_kept_when_it_holds_objects(playback: Playback, provider: Google) -> None:
    """Weights cost hours to bring back: only forceDestroy empties a bucket."""
    base = "/storage/storage/v1/b/weights"
    playback.add("GET", f"{base}/anywhereCaches/?alt=json", {})
    listing = {"items": [{"name": "x", "generation": "1"}]}
    playback.add("GET", f"{base}/o?alt=json&prettyPrint=false&versions=true", listing)
    token = "gcp:storage/bucket:Bucket"
    old = {"name": "weights", "project": "proj", "forceDestroy": False}

    with pytest.raises(RefusedError, match="bucket weights without `force_destroy` set to true"):
        provider.delete(asking(token, resource_id="weights", old=old))
    assert not [a for a in playback.asked if a.method == "DELETE"]


def test_function_stays_in_state_when_its_build_fails(playback: Playback, provider: Google) -> None:
    """The real provider keeps the failed function; the next `up` then replaces it."""
    base = "/functions/v2beta/projects/proj/locations/us-central1"
    failed = {"name": "operations/x", "done": True, "error": {"code": 3, "message": "Build failed"}}
    playback.add("POST", f"{base}/functions?alt=json&functionId=reaper", failed)
    inputs = {"name": "reaper", "location": "us-central1"}

    with pytest.raises(PartlyDoneError) as partly:
        provider.create(asking("gcp:cloudfunctionsv2/function:Function", inputs=inputs))

    assert partly.value.resource_id == "projects/proj/locations/us-central1/functions/reaper"
    assert "Error waiting to create function: Error code 3, message: Build failed" in str(
        partly.value
    )


def test_lookup_gives_the_vm_in_lists_when_it_is_there(
    playback: Playback, provider: Google
) -> None:
    """A data source's shape differs from the resource's: a program that mixes them up must fail
    here."""
    playback.add("GET", f"{ZONE}/instances/mayfly-dev?alt=json", ANSWER)
    playback.add("GET", f"{ZONE}/disks/mayfly-dev?alt=json", DISK)
    asked = {"name": "mayfly-dev", "zone": "us-central1-a", "project": "proj"}

    found = provider.invoke("gcp:compute/getInstance:getInstance", asked)

    assert found["schedulings"][0]["maxRunDurations"] == [{"nanos": 0, "seconds": 3600}]
    assert found["bootDisks"][0]["initializeParams"][0]["size"] == 200
    assert found["currentStatus"] == "RUNNING"
    assert found["reservationAffinities"] == []


def test_lookup_says_not_found_when_the_vm_is_gone(playback: Playback, provider: Google) -> None:
    """The program reads this text to tell "gone" from "could not look"."""
    gone = error(404, "The resource 'x' was not found", "notFound")
    playback.add("GET", f"{ZONE}/instances/mayfly-dev?alt=json", gone, 404)
    asked = {"name": "mayfly-dev", "zone": "us-central1-a", "project": "proj"}

    with pytest.raises(RefusedError, match="googleapi: Error 404: The resource 'x' was not found"):
        provider.invoke("gcp:compute/getInstance:getInstance", asked)


def test_lookup_is_refused_when_nobody_knows_it(provider: Google) -> None:
    """An unknown data source, or a misspelt argument, must not answer with nothing."""
    with pytest.raises(RefusedError, match="the stand-in does not know it"):
        provider.invoke("gcp:compute/getZones:getZones", {})
    with pytest.raises(RefusedError, match='Invalid or unknown key: "zon"'):
        provider.invoke("gcp:compute/getInstance:getInstance", {"name": "a", "zon": "b"})
