"""The real provider's recorded requests against the fake: all are taken, and answered in kind.

Extra checks: collected only where the recordings are (see conftest).
"""

from typing import Any

import pytest

from tests.cloud.golden import Replay, records
from tests.conftest import SHARED

GOLDEN = SHARED / "golden" / "gcp-http"
STACKS = (
    "network",
    "address",
    "instance-spot",
    "instance-variants",
    "instance-image-family",
    "instance-more-changes",
)
# What differs from one cloud to the next, and so from the recorder's.
OWN = {
    *("id", "name", "targetId", "fingerprint", "labelFingerprint", "selfLinkWithId", "address"),
    *("creationTimestamp", "lastStartTimestamp", "lastAttachTimestamp", "terminationTimestamp"),
    *("insertTime", "startTime", "endTime", "selfLink", "networkIP", "natIP", "sourceImageId"),
    *("progress", "status", "cpuPlatform", "description", "licenses", "licenseCodes"),
    *("guestOsFeatures", "archiveSizeBytes"),
}
# The recorder gave any disk pd-standard and shrank one; Google does neither.
UNLIKE_GOOGLE = {".type", ".sizeGb", ".disks[0].diskSizeGb"}
# The fault that each recording was made with.
ERRORS: dict[str, dict[str, Any]] = {
    "01-stockout-with-details": {"fault": "stockout-with-details"},
    "02-stockout-plain": {"fault": "stockout-plain"},
    "03-quota-exceeded-op": {"fault": "quota-exceeded-op"},
    "04-quota-http-403": {"fault": "quota-http-403"},
    "05-permission-http-403": {"fault": "permission-http-403"},
    "06-api-off-http-403": {"fault": "api-off-http-403"},
    "07-billing-http-403": {"fault": "billing-http-403"},
    "08-org-policy-http-412": {"fault": "org-policy-http-412"},
    "09-bad-request-http-400": {"fault": "bad-request-http-400"},
    "10-already-exists-http-409": {"fault": "already-exists-http-409"},
    "11-not-found-http-404": {"fault": "not-found-http-404"},
    "12-unauthenticated-http-401": {"fault": "unauthenticated-http-401"},
    "13-http-503-for-ever": {"fault": "http-5xx", "times": 0},
    "14-http-503-twice": {"fault": "http-5xx", "times": 2},
    "15-rate-limit-http-429-twice": {"fault": "rate-limit-http-429", "times": 2},
    "16-rate-limit-http-403": {"fault": "rate-limit-http-403"},
    "17-connection-dropped-once-before-create": {"fault": "dropped-before"},
    "17b-connection-dropped-once-after-create": {"fault": "dropped-after"},
    "17c-http-503-once-after-create": {"fault": "http-5xx-after"},
    "18-internal-error-op": {"fault": "internal-error-op"},
    "19-unsupported-op": {"fault": "unsupported-op"},
    "20-global-quota-op": {"fault": "global-quota-op"},
    "21-operation-runs-on-for-two-polls": {
        "fault": "slow-operation",
        "method": "compute.instances.insert",
        "with": {"polls": 2},
    },
    "22-staging-for-two-looks": {"fault": "status", "times": 2},
    "23-gone-after-insert": {"fault": "gone", "times": 0},
    "24-terminated-after-insert": {
        "fault": "status",
        "times": 0,
        "with": {"status": "TERMINATED"},
    },
}


def differences(recorded: Any, ours: Any, at: str = "") -> list[str]:
    """Where our answer lacks or contradicts what the recorded one holds."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        found = []
        for key, value in recorded.items():
            if key in OWN or f"{at}.{key}" in UNLIKE_GOOGLE:
                continue
            if key not in ours:
                found.append(f"{at}.{key} is missing")
            else:
                found += differences(value, ours[key], f"{at}.{key}")
        return found
    if isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        pairs = enumerate(zip(recorded, ours, strict=True))
        return [d for i, (old, new) in pairs for d in differences(old, new, f"{at}[{i}]")]
    return [] if recorded == ours else [f"{at}: {recorded!r} is {ours!r}"]


@pytest.mark.parametrize("stack", STACKS)
def test_every_recorded_request_is_answered_as_recorded(world, api, stack):
    """With those answers the real provider showed no difference on its next look."""
    replay = Replay(world, api.client)
    files = sorted((GOLDEN / stack).glob("*.jsonl"))
    assert files

    for record in records(*files):
        status, body = replay.answer(record)

        where = f"{record['method']} {record['path']}"
        assert record["status"] == status, f"{where}: {body}"
        if status == 200 and body["kind"] != "compute#operation":
            assert differences(record["response"], body) == [], where


@pytest.mark.parametrize("name", ERRORS)
def test_every_recorded_failure_is_played_word_by_word(world, api, name):
    """The ladder's rules were read off these bodies."""
    order = {k: v for k, v in ERRORS[name].items() if k != "fault"}
    api.fault(ERRORS[name]["fault"], **order)
    replay = Replay(world, api.client)

    for record in records(GOLDEN / "instance-errors" / f"{name}.jsonl"):
        status, body = replay.answer(record)

        assert record["status"] == status, f"{record['method']} {record['path']}: {body}"
        if not isinstance(status, int):
            continue
        if status != 200:
            assert record["response"] == body
        elif (record["response"].get("error") or {}).get("errors"):
            assert _failed_alike(record["response"], body)


def _failed_alike(recorded: dict[str, Any], ours: dict[str, Any]) -> bool:
    keys = ("error", "httpErrorStatusCode", "httpErrorMessage", "status")
    return {k: recorded.get(k) for k in keys} == {k: ours.get(k) for k in keys}


def test_every_recorded_failure_has_its_fault():
    """A new recording must find its order here."""
    recorded = {f.stem for f in (GOLDEN / "instance-errors").glob("*.jsonl")}

    assert set(ERRORS) == {name for name in recorded if not name.endswith("-destroy")}


def test_difference_is_seen_when_an_answer_lacks_something():
    """The comparison above must be able to fail."""
    recorded = {"scheduling": {"maxRunDuration": {"seconds": "60"}}, "disks": [{"boot": True}]}

    assert [f"({d})" for d in differences(recorded, recorded | {"disks": [{}]})] == [
        "(.disks[0].boot is missing)"
    ]
    number = {"scheduling": {"maxRunDuration": {"seconds": 60}}}
    assert differences(recorded, recorded | number) == [
        ".scheduling.maxRunDuration.seconds: '60' is 60"
    ]


def test_provider_finds_what_it_needs(world, api):
    """README, "Needed by the provider": each of these was seen to fail or differ otherwise."""
    replay = Replay(world, api.client)
    for record in records(GOLDEN / "instance-spot" / "02-up.jsonl"):
        replay.answer(record)
    zone = "/compute/beta/projects/proj/zones/us-central1-a"

    _, vm = api.get(f"{zone}/instances/mayfly-spot?view=FULL")
    _, disk = api.get(f"{zone}/disks/{vm['disks'][0]['source'].rpartition('/')[2]}")

    assert vm["status"] == "RUNNING"
    assert vm["scheduling"]["maxRunDuration"]["seconds"] == "14400"
    assert all((vm["metadata"]["fingerprint"], vm["tags"]["fingerprint"], vm["labelFingerprint"]))
    assert disk["sourceImage"].startswith("https://www.googleapis.com/compute/v1/projects/ubuntu-")
    assert disk["type"].endswith("/diskTypes/hyperdisk-balanced")
    assert disk["sizeGb"] == "200"
