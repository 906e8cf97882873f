"""What Google is seen to answer to a launch, row by row: what it means, and where the walk goes."""

from dataclasses import dataclass
from typing import Any

import pytest

from mayfly.capacity import classify
from mayfly.cloud.errors import CloudError, refusal
from mayfly.ladder.walk import Ladder, Look, Step, Stop, Try, next_step
from tests.unit.ladders import ZONES, attempt, operation, rung, stockout

A, B, C, EAST_A, EAST_B = RUNGS = tuple(rung(zone) for zone in ZONES)
LADDER = Ladder(rungs=RUNGS)
CREATE = "1 error occurred:\n\t* Error creating instance: googleapi: "
WAIT = "1 error occurred:\n\t* Error waiting for instance to create: "
OWN_QUOTA = "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 0.0 in region us-central1."
FAMILY = "Quota 'GPUS_PER_GPU_FAMILY' exceeded. Limit: 0.0 in region us-central1"
GLOBAL = "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally."
PROSE = (
    f"{WAIT}The zone 'projects/p/zones/us-central1-a' does not have enough resources available to "
    "fulfill the request. '(resource type:compute)'.\n\n\nConsider trying your request in the "
    "us-east4-b,\nus-central1-c zone(s), which currently has capacity"
)
NO_TYPE = "The resource 'projects/p/zones/us-central1-a/machineTypes/a3-highgpu-8g' was not found"

# The moves, as the step after one attempt on the first rung.
ZONE, REGION, HINT = "next zone", "next region", "the zone that Google names"
STOP, LOOK, WAIT_1_MIN, AGAIN = "stop", "look", "the same in a minute", "the same again"


def move(step: Step) -> str:
    """What a step is, from rung A on this ladder."""
    if isinstance(step, Stop | Look):
        return STOP if isinstance(step, Stop) else LOOK
    assert isinstance(step, Try), step
    if step.rung == A:
        return WAIT_1_MIN if step.wait_s == 60 and "too many calls" in step.why else AGAIN
    return {B: ZONE, EAST_A: REGION, EAST_B: HINT}[step.rung]


@dataclass(frozen=True)
class Seen:
    """row: the beginning of the facts' row. lasts: it will be the same in an hour."""

    row: str
    error: Any
    move: str
    lasts: bool = False


POOL = "either pool-exhausted code"
PREEMPTED = "PREEMPTED at start"
REGIONAL = "regional quota"
EVERYWHERE = "`Quota 'GPUS_ALL_REGIONS' exceeded"
FORBIDDEN, POLICY, NOT_READY, BROKEN = "403", "412", "400 `resourceNotReady`", "transport error"
SEEN = {
    "zone pool": Seen(POOL, operation("ZONE_RESOURCE_POOL_EXHAUSTED"), ZONE),
    "zone pool, details": Seen(POOL, stockout(), ZONE),
    "zone pool, zonesAvailable": Seen(POOL, stockout("us-east4-b", "us-central1-c"), HINT),
    "zone pool, prose over two lines": Seen(POOL, PROSE, HINT),
    "region pool": Seen(POOL, operation("REGION_RESOURCE_POOL_EXHAUSTED"), REGION),
    "region pool, details": Seen(
        POOL, operation("REGION_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"), REGION
    ),
    "GPU stockout": Seen(POOL, operation("GPU_STOCKOUT"), ZONE),
    "insufficient": Seen(POOL, operation("insufficientCapacity"), ZONE),
    "pool": Seen(POOL, operation("RESOURCE_POOL_EXHAUSTED"), ZONE),
    "minimum count": Seen(POOL, operation("VM_MIN_COUNT_NOT_REACHED"), ZONE),
    "stockout by 503": Seen(
        POOL,
        refusal("insert", 503, '{"error": {"message": "ZONE_RESOURCE_POOL_EXHAUSTED"}}'),
        ZONE,
    ),
    "preempted": Seen(PREEMPTED, operation("PREEMPTED"), ZONE),
    "preempted while created": Seen(PREEMPTED, operation("UNSUPPORTED_OPERATION"), ZONE),
    "type not in zone": Seen(PREEMPTED, operation("RESOURCE_NOT_FOUND", NO_TYPE), ZONE, lasts=True),
    "quota": Seen(REGIONAL, operation("QUOTA_EXCEEDED", OWN_QUOTA), REGION, lasts=True),
    "quota of a family": Seen(REGIONAL, operation("QUOTA_EXCEEDED", FAMILY), REGION, lasts=True),
    "quota, printed": Seen(REGIONAL, WAIT + OWN_QUOTA, REGION, lasts=True),
    "global quota": Seen(EVERYWHERE, operation("QUOTA_EXCEEDED", GLOBAL), STOP),
    "global quota, printed": Seen(EVERYWHERE, WAIT + GLOBAL, STOP),
    "403 permission": Seen(
        FORBIDDEN,
        f"{CREATE}Error 403: Required 'compute.instances.create' permission for 'x', forbidden",
        STOP,
    ),
    "403 API off": Seen(
        FORBIDDEN,
        f"{CREATE}Error 403: Compute Engine API has not been used in project p before or it is "
        "disabled., accessNotConfigured",
        STOP,
    ),
    "403 billing": Seen(
        FORBIDDEN,
        f"{CREATE}Error 403: This API method requires billing to be enabled., forbidden",
        STOP,
    ),
    "403 quota": Seen(FORBIDDEN, f"{CREATE}Error 403: {OWN_QUOTA}, quotaExceeded", REGION, True),
    "403 rate limit": Seen(FORBIDDEN, f"{CREATE}Error 403: Rate Limit Exceeded", WAIT_1_MIN),
    "403 rate limit by its metric": Seen(
        FORBIDDEN,
        f"{CREATE}Error 403: Quota exceeded for quota metric 'Queries' and limit 'Queries per "
        "minute' of service 'compute.googleapis.com', forbidden",
        WAIT_1_MIN,
    ),
    "412 policy": Seen(
        POLICY, f"{CREATE}Error 412: Constraint constraints/compute.x violated, y", STOP
    ),
    "400 not ready": Seen(NOT_READY, f"{CREATE}Error 400: The resource 's' is not ready", AGAIN),
    "400 resourceNotReady": Seen(NOT_READY, f"{CREATE}Error 400: x, resourceNotReady", AGAIN),
    "connection reset": Seen(BROKEN, ConnectionResetError("peer"), LOOK),
    "end of file": Seen(BROKEN, 'Error creating instance: Post "http://x/instances": EOF', LOOK),
    "no answer": Seen(BROKEN, CloudError(0, "unreachable", "compute: no answer"), LOOK),
    "bare 500": Seen(BROKEN, CloudError(500, "", "compute: 500", ""), LOOK),
    "bare 502": Seen(BROKEN, f"{CREATE}Error 502: Bad Gateway", LOOK),
    "bare 503": Seen(
        BROKEN, f"{CREATE}Error 503: The service is currently unavailable., backendError", LOOK
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_walk_goes_where_the_row_says_when_google_answers_so(name):
    """A wrong move buys a second machine, or loses an hour."""
    seen = SEEN[name]

    step = next_step(LADDER, [attempt(A, seen.error)])

    assert move(step) == seen.move
    assert classify(seen.error).lasting == seen.lasts
