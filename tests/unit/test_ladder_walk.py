"""What comes next: a wrong step buys a second machine, or leaves the only free one unasked."""

import itertools

import pytest

from mayfly.capacity import RULES, Verdict, classify
from mayfly.ladder.remedies import REMEDIES
from mayfly.ladder.walk import (
    RETRY_FIRST_S,
    TRIES_OF_A_RUNG,
    Attempt,
    Done,
    Ladder,
    Look,
    Stop,
    TakeUp,
    Try,
    next_step,
)
from tests.unit.ladders import ZONES, attempt, operation, rung, stockout

A, B, C, EAST_A, EAST_B = RUNGS = tuple(rung(zone) for zone in ZONES)
LADDER = Ladder(rungs=RUNGS)
CREATE = "1 error occurred:\n\t* Error creating instance: googleapi: "
WAIT = "1 error occurred:\n\t* Error waiting for instance to create: "

# Each row of the facts about what Google answers, and where the ladder goes from the first rung.
NEXT_ZONE = (
    *("ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"),
    *("GPU_STOCKOUT", "insufficientCapacity", "RESOURCE_POOL_EXHAUSTED"),
    *("VM_MIN_COUNT_NOT_REACHED", "PREEMPTED", "UNSUPPORTED_OPERATION"),
)
NEXT_REGION = ("REGION_RESOURCE_POOL_EXHAUSTED", "REGION_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")


@pytest.mark.parametrize("code", NEXT_ZONE)
def test_step_is_the_next_zone_when_this_one_has_no_room(code):
    """The first two rows of the table."""
    step = next_step(LADDER, [attempt(A, operation(code))])

    assert step == Try(rung=B, why=step.why)


def test_step_is_the_next_zone_when_the_type_is_not_in_this_one():
    """Catalogues lag; a 404 of a machine type is a fact about a zone."""
    gone = "The resource 'projects/p/zones/us-central1-a/machineTypes/a3-highgpu-8g' was not found"

    assert next_step(LADDER, [attempt(A, operation("RESOURCE_NOT_FOUND", gone))]).rung == B


@pytest.mark.parametrize("code", NEXT_REGION)
def test_step_is_the_next_region_when_the_region_has_no_room(code):
    """Its other zones would say the same."""
    assert next_step(LADDER, [attempt(A, operation(code))]).rung == EAST_A


@pytest.mark.parametrize(
    "error",
    [
        stockout("us-east4-b", "us-central1-f"),
        f"{WAIT}The zone 'z' does not have enough resources available to fulfill the request. "
        "Consider trying your request in the\nus-east4-b,\nus-central1-f zone(s), which",
    ],
)
def test_step_is_googles_zone_when_it_names_one_that_is_allowed(error):
    """By its list, or by the prose, which breaks across lines."""
    step = next_step(LADDER, [attempt(A, error)])

    assert step.rung == EAST_B
    assert step.why == "Google says that us-east4-b has room"


def test_hint_outlives_the_attempt_it_came_with_when_that_zone_fails_too():
    """Two zones named, the first taken meanwhile: the second is still the better guess."""
    tried = [attempt(A, stockout("us-east4-b", "us-central1-c")), attempt(EAST_B, stockout())]

    assert next_step(LADDER, tried).rung == C


def test_hint_is_for_its_own_machine_when_the_ladder_has_several():
    """Room for an A100 says nothing of H100."""
    other = rung("us-central1-b", machine="a2-ultragpu-8g")
    ladder = Ladder(rungs=(A, other, C))

    assert next_step(ladder, [attempt(A, stockout("us-central1-b"))]).rung == other
    assert next_step(ladder, [attempt(A, stockout("us-central1-c"))]).rung == C
    with_both = Ladder(rungs=(A, other, C, B))
    assert next_step(with_both, [attempt(A, stockout("us-central1-b"))]).rung == B


QUOTA = "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded.  Limit: 0.0 in region us-central1."


@pytest.mark.parametrize(
    "error",
    [operation("QUOTA_EXCEEDED", QUOTA), f"{WAIT}{QUOTA}", f"{CREATE}Error 403: {QUOTA}, quota"],
)
def test_step_is_the_next_region_when_the_regional_quota_is_used_up(error):
    """Also where it comes as a 403."""
    assert next_step(LADDER, [attempt(A, error)]).rung == EAST_A


def test_quota_closes_flex_start_too_when_spot_has_none():
    """Both draw on the preemptible quota; on demand has one of its own, A100 another."""
    flex = rung(provisioning="flex-start")
    demand = rung(provisioning="on-demand")
    ampere = rung(machine="a2-ultragpu-8g")
    tried = [attempt(A, operation("QUOTA_EXCEEDED", QUOTA))]

    assert isinstance(next_step(Ladder(rungs=(A, flex), retry_for_s=9e9), tried), Stop)
    assert next_step(Ladder(rungs=(A, flex, demand)), tried).rung == demand
    assert next_step(Ladder(rungs=(A, flex, ampere)), tried).rung == ampere


def test_walk_never_returns_to_a_quota_when_it_goes_on_for_hours():
    """Retrying there never helps."""
    ladder = Ladder(rungs=(A, EAST_A), retry_for_s=7200)
    tried = [attempt(A, operation("QUOTA_EXCEEDED", QUOTA)), attempt(EAST_A, stockout())]

    step = next_step(ladder, tried)

    assert step.rung == EAST_A
    assert step.round == 1


STOPS = {
    "global quota": (
        operation("QUOTA_EXCEEDED", "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally."),
        "GPUS_ALL_REGIONS",
    ),
    "permission": (
        f"{CREATE}Error 403: Required 'compute.instances.create' permission for 'x', forbidden",
        "project's owner",
    ),
    "API off": (f"{CREATE}Error 403: Compute Engine API has not been used in project p", "enable"),
    "billing": (f"{CREATE}Error 403: This API method requires billing to be enabled.", "billing"),
    "policy": (f"{CREATE}Error 412: Constraint constraints/compute.x violated", "organisation"),
    "bad request": (f"{CREATE}Error 400: Invalid value for field 'x'., invalid", "pulumi preview"),
    "credentials": (f"{CREATE}Error 401: Request had invalid, authError", "gcloud auth"),
    "network": (f"{CREATE}Error 404: The resource 'n' was not found, notFound", "foundation"),
    "unknown": ("the moon is in the wrong house", "mayfly status"),
}


@pytest.mark.parametrize("name", STOPS)
def test_step_is_a_stop_with_the_remedy_when_no_zone_can_help(name):
    """An hour of attempts over a missing permission is an hour lost."""
    error, words = STOPS[name]
    step = next_step(LADDER, [attempt(A, error)])

    assert isinstance(step, Stop)
    assert words in step.remedy
    assert "No VM was made" in step.meaning
    assert step.refused == (name == "global quota")


@pytest.mark.parametrize("how", ["Error 403: Rate Limit Exceeded", "Error 429: Too many requests"])
def test_step_waits_a_minute_when_it_is_a_rate_limit(how):
    """A 403 alone decides nothing; its text need not hold Google's word for it."""
    step = next_step(LADDER, [attempt(A, f"{CREATE}{how}")])

    assert step == Try(rung=A, wait_s=RETRY_FIRST_S, why="too many calls a minute")


def test_step_waits_longer_each_time_and_stops_when_the_limit_stays():
    """Bounded: a project that is out of calls for the day must not be asked for ever."""
    slow = [attempt(A, f"{CREATE}Error 429: x, rateLimitExceeded")]
    waits = []
    while isinstance(step := next_step(LADDER, slow), Try):
        waits.append(step.wait_s)
        slow.append(slow[0])

    assert waits == [60, 120, 240]
    assert isinstance(step, Stop)
    assert "some minutes" in step.remedy


def test_step_is_a_retry_when_something_is_not_ready():
    """A 400 that is no bad request."""
    step = next_step(LADDER, [attempt(A, f"{CREATE}Error 400: 's' is not ready, resourceNotReady")])

    assert step.rung == A


LOOKS = (
    f"{CREATE}Error 503: The service is currently unavailable., backendError",
    f"{CREATE}Error 502: Bad Gateway",
    f"{CREATE}Error 409: The resource 'x' already exists, alreadyExists",
    'Error creating instance: Post "http://x/instances?alt=json": EOF',
    operation("INTERNAL_ERROR"),
    "Error waiting for status: couldn't find resource (21 retries)",
    ConnectionResetError("peer"),
)


@pytest.mark.parametrize("error", LOOKS, ids=range(len(LOOKS)))
def test_step_is_a_look_by_name_before_anything_when_a_vm_may_exist(error):
    """The provider leaves such a VM outside the state, at 53 dollars an hour."""
    assert next_step(LADDER, [attempt(A, error)]) == Look(A)


def test_step_after_a_look_follows_what_was_seen():
    """Ours is taken up, another's is left alone, and what cannot be seen is not built upon."""
    seen = {f: next_step(LADDER, [attempt(A, LOOKS[0], found=f)]) for f in ("ours", "nothing")}
    other = next_step(LADDER, [attempt(A, LOOKS[2], found="others")])
    blind = next_step(LADDER, [attempt(A, LOOKS[0], found="unknown")])

    assert seen["ours"] == TakeUp(A)
    assert seen["nothing"].rung == A
    assert seen["nothing"].wait_s > 0
    assert "this stack did not make it" in other.what
    assert "A VM may run in us-central1-a" in blind.meaning
    assert "40.00 USD/h" in blind.meaning


def test_step_is_the_next_rung_when_a_zone_fails_again_and_again():
    """Google's trouble in one zone is no reason to give up on the others."""
    broken = [attempt(A, LOOKS[0], found="nothing")] * TRIES_OF_A_RUNG

    assert next_step(LADDER, broken).rung == B


def test_step_is_done_when_the_vm_is_there():
    assert next_step(LADDER, [attempt(A, stockout()), attempt(B)]) == Done(B)


def walk(ladder, error, limit=200):
    """All attempts where every place answers alike, and the stop at the end."""
    tried: list[Attempt] = []
    now_s = 0.0
    while isinstance(step := next_step(ladder, tried), Try):
        now_s += step.wait_s + 60
        tried.append(attempt(step.rung, error, round=step.round, ended_s=now_s))
        assert len(tried) < limit
    return tried, step


def test_walk_asks_each_place_once_and_says_no_when_all_are_out_of_stock():
    """Exit code 3, and the command that goes on asking."""
    tried, stop = walk(LADDER, stockout())

    assert [a.rung for a in tried] == list(RUNGS)
    assert stop.refused
    assert "5 places" in stop.what
    assert "--retry-for" in stop.remedy


def test_walk_goes_round_with_growing_waits_until_its_time_is_over():
    """`--retry-for 2h` ends after two hours, not after the next round."""
    tried, stop = walk(Ladder(rungs=RUNGS, retry_for_s=7200), stockout())

    rounds = [a.round for a in tried]
    assert rounds == sorted(rounds)
    assert rounds[-1] >= 4
    assert 5400 < tried[-1].ended_s <= 7200 + 5 * 60
    assert stop.refused


def test_walk_says_that_waiting_is_no_use_when_quota_is_all_there_is():
    """Two hours of retries would end where they began."""
    ladder = Ladder(rungs=RUNGS, retry_for_s=7200)
    tried, stop = walk(ladder, operation("QUOTA_EXCEEDED", QUOTA))

    assert [a.rung.place.region for a in tried] == ["us-central1", "us-east4"]
    assert "Waiting does not help" in stop.meaning
    assert "mayfly quota check" in stop.remedy


def test_walk_says_so_when_there_is_no_rung():
    step = next_step(Ladder(rungs=()), [])

    assert step.refused
    assert "--dry-run" in step.remedy


ENDINGS = (stockout(), stockout("us-east4-b"), operation(NEXT_REGION[0]), LOOKS[0], QUOTA)


def test_walk_lands_wherever_room_is_when_all_else_fails_in_any_way():
    """Every pattern of answers over four places with room in the fifth only, unless the fifth's
    own region has said that it has none at all."""
    patterns = list(itertools.product(ENDINGS, repeat=4))
    landed = 0
    for errors in patterns:
        step, tried = _only_in(EAST_B, dict(zip(RUNGS, errors, strict=False)))
        hidden = any(
            a.rung == EAST_A and a.verdict and a.verdict.action == "next_region" for a in tried
        )
        assert step == Done(EAST_B) or hidden, errors
        landed += step == Done(EAST_B)

    assert landed > len(patterns) / 2


def _only_in(free, errors):
    """The last step and all attempts where one rung has room and the others answer thus."""
    tried: list[Attempt] = []
    while True:
        step = next_step(Ladder(rungs=RUNGS), tried)
        if isinstance(step, Look):
            tried[-1] = attempt(tried[-1].rung, tried[-1].verdict, found="nothing")
        elif isinstance(step, Try):
            error = None if step.rung == free else errors[step.rung]
            tried.append(attempt(step.rung, error))
            assert len(tried) <= TRIES_OF_A_RUNG * len(RUNGS)
        else:
            return step, tried


def test_every_stop_has_a_remedy_of_its_own_when_its_reason_is_known():
    """ "Pulumi's words are above" is for what nobody has seen yet."""
    ids = {rule.id for rule in RULES if rule.action in ("stop", "retry") or rule.lasting}

    assert ids == set(REMEDIES)


def test_rules_ids_are_their_own_when_verdicts_are_told_apart_by_them():
    """Two of one id would share a remedy; the words beside it may change as they like."""
    ids = [rule.id for rule in RULES]

    assert len(set(ids)) == len(ids)
    assert classify(operation("QUOTA_EXCEEDED", QUOTA)).id == "quota-region"
    assert classify("the moon is in the wrong house").id == ""


def test_verdict_lasts_only_when_an_hour_changes_nothing():
    """Capacity comes back; a quota does not."""
    assert classify(operation("QUOTA_EXCEEDED", QUOTA)).lasting
    assert not classify(stockout()).lasting
    assert not classify(operation("UNSUPPORTED_OPERATION")).lasting
    assert not Verdict("next_zone", (), "x").lasting
