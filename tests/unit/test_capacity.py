"""What a failed launch means: a wrong "next" buys a second machine, a wrong "stop" loses hours."""

import pytest

from mayfly.capacity import classify
from mayfly.cloud.errors import CloudError, refusal

CREATE = "Error creating instance: googleapi: "
WAIT = "Error waiting for instance to create: "
NO_ROOM = (
    "The zone 'projects/proj/zones/us-central1-a' does not have enough resources available to "
    "fulfill the request."
)

# What Pulumi prints (its Google provider's own words) -> action
PRINTED = {
    "stockout with details": (
        f"{WAIT}{NO_ROOM} '(resource type:compute)'.\n\n\nA a3-highgpu-8g VM instance with 8 "
        "nvidia-h100-80gb accelerator(s) is currently unavailable in the us-central1-a zone. "
        "Consider trying your request in the us-central1-b,\nus-central1-c zone(s), which "
        "currently has capacity to accommodate your request.",
        "next_zone",
    ),
    "stockout": (f"{WAIT}{NO_ROOM}  Try a different zone, or try again later.", "next_zone"),
    "regional quota": (
        f"{WAIT}Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 0.0 in region us-central1.\n"
        "\tmetric name = compute.googleapis.com/preemptible_nvidia_h100_gpus\n"
        "\tlimit name = PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region",
        "next_region",
    ),
    "regional quota by 403": (
        f"{CREATE}Error 403: Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 0.0 in region "
        "us-central1., quotaExceeded",
        "next_region",
    ),
    "quota of a GPU family": (
        f"{WAIT}Quota 'GPUS_PER_GPU_FAMILY' exceeded. Limit: 0.0 in region us-central1.",
        "next_region",
    ),
    "global quota": (
        f"{WAIT}Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.\n"
        "\tlimit name = GPUS-ALL-REGIONS-per-project",
        "stop",
    ),
    "global quota of vCPUs": (
        f"{WAIT}Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 207.0 globally.",
        "stop",
    ),
    "permission": (
        f"{CREATE}Error 403: Required 'compute.instances.create' permission for "
        "'projects/proj/zones/us-central1-a/instances/mayfly-err', forbidden",
        "stop",
    ),
    "API off": (
        f"{CREATE}Error 403: Compute Engine API has not been used in project proj before or it is "
        "disabled. Enable it by visiting https://console.developers.google.com/ then retry. "
        "If you enabled this API recently, wait a few minutes., accessNotConfigured",
        "stop",
    ),
    "billing": (
        f"{CREATE}Error 403: This API method requires billing to be enabled. Please enable billing "
        "on project #proj then retry., forbidden",
        "stop",
    ),
    "organisation policy": (
        f"{CREATE}Error 412: Constraint constraints/compute.vmExternalIpAccess violated for "
        "project proj., conditionNotMet",
        "stop",
    ),
    "machine not in zone": (
        f"{CREATE}Error 400: Invalid value for field 'resource.machineType': 'x'. Machine type "
        "with name 'a3-highgpu-8g' does not exist in zone 'us-central1-a'., invalid",
        "next_zone",
    ),
    "bad request": (
        f"{CREATE}Error 400: Invalid value for field 'resource.scheduling': must be DELETE.,"
        " invalid",
        "stop",
    ),
    "409": (
        f"{CREATE}Error 409: The resource 'projects/proj/zones/us-central1-a/instances/mayfly-err' "
        "already exists, alreadyExists",
        "look_first",
    ),
    "network missing": (
        f"{CREATE}Error 404: The resource 'projects/proj/global/networks/default' was not found,"
        " notFound",
        "stop",
    ),
    "no credentials": (
        f"{CREATE}Error 401: Request had invalid authentication credentials., authError",
        "stop",
    ),
    "503": (
        f"{CREATE}Error 503: The service is currently unavailable., backendError",
        "look_first",
    ),
    "rate limit by 429": (f"{CREATE}Error 429: Too many requests, rateLimitExceeded", "retry"),
    "rate limit by 403": (f"{CREATE}Error 403: Rate Limit Exceeded, rateLimitExceeded", "retry"),
    "not ready": (
        f"{CREATE}Error 400: The resource 'projects/proj/regions/r/subnetworks/s' is not ready,"
        " resourceNotReady",
        "retry",
    ),
    "dropped": (
        'Error creating instance: Post "http://compute/instances?alt=json": EOF',
        "look_first",
    ),
    "internal": (
        f"{WAIT}Internal error. Please try again or contact Google Support. (Code: '-123')",
        "look_first",
    ),
    "spot not offered": (
        f"{WAIT}Instance 'mayfly-err' creation failed: SPOT is not supported for this machine"
        " type.",
        "next_zone",
    ),
    "gone after insert": (
        "Error waiting for status: Error waiting for instance to reach desired status RUNNING: "
        "couldn't find resource (21 retries)",
        "look_first",
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_printed_text_gives_the_action_of_the_table(name):
    """Pulumi's text holds no code; what is left must be enough."""
    text, action = PRINTED[name]

    assert classify(f"1 error occurred:\n\t* {text}\n\n").action == action


def operation(code, message, status=503, **info):
    details = (
        [{"errorInfo": {"reason": "resource_availability", "metadatas": info}}] if info else []
    )
    entry = {"code": code, "message": message, "errorDetails": details}
    return {"status": "DONE", "httpErrorStatusCode": status, "error": {"errors": [entry]}}


CODES = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": "next_zone",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": "next_zone",
    "RESOURCE_POOL_EXHAUSTED": "next_zone",
    "GPU_STOCKOUT": "next_zone",
    "VM_MIN_COUNT_NOT_REACHED": "next_zone",
    "PREEMPTED": "next_zone",
    "UNSUPPORTED_OPERATION": "next_zone",
    "REGION_RESOURCE_POOL_EXHAUSTED": "next_region",
    "REGION_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": "next_region",
    "QUOTA_EXCEEDED": "next_region",
    "INTERNAL_ERROR": "look_first",
    "SOMETHING_NEW": "stop",
}


@pytest.mark.parametrize("code", CODES)
def test_operation_code_decides_when_the_message_says_little(code):
    """The ladder reads the zone operation because only it carries the code."""
    assert classify(operation(code, "It did not work.")).action == CODES[code]


def test_zones_come_from_googles_list_when_there_is_one():
    """`zonesAvailable` is what no peer reads, and what saves the most attempts."""
    error = operation(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        f"{NO_ROOM} Consider trying your request in the us-east4-a zone(s).",
        zonesAvailable="us-central1-a,us-central1-f",
    )

    assert classify(error).zones == ("us-central1-a", "us-central1-f")


def test_zones_come_from_the_prose_when_it_breaks_over_lines():
    """Pulumi prints the sentence wrapped."""
    text, _ = PRINTED["stockout with details"]

    assert classify(text).zones == ("us-central1-b", "us-central1-c")


def test_no_zones_are_offered_when_google_names_none():
    """The zone that is out of stock must not come back as a proposal."""
    text, _ = PRINTED["stockout"]

    assert classify(text).zones == ()


def test_client_exception_is_read_by_its_body_when_its_message_is_short():
    """Our own door keeps Google's answer whole."""
    body = {"error": {"code": 403, "errors": [{"reason": "quotaExceeded", "message": "Quota"}]}}

    assert classify(CloudError(403, "", "compute: 403", body)).action == "next_region"


def test_refused_call_is_read_as_the_door_makes_it():
    """A stockout may also arrive as HTTP 503 with the code in its text."""
    answer = '{"error": {"code": 503, "message": "ZONE_RESOURCE_POOL_EXHAUSTED"}}'

    assert classify(refusal("instances.insert", 503, answer)).action == "next_zone"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("peer"),
        TimeoutError("timed out"),
        CloudError(0, "unreachable", "compute: no answer"),
        CloudError(502, "", "compute: 502", ""),
    ],
)
def test_broken_call_asks_to_look_first(error):
    """The VM may exist and cost 53 dollars an hour."""
    assert classify(error).action == "look_first"


def test_unknown_error_stops():
    """Who does not know what happened must not buy another machine."""
    assert classify("the moon is in the wrong house").action == "stop"
