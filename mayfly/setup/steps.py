"""What init does, one step at a time; each may be repeated, and leaves nothing half done."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from mayfly import names
from mayfly.cloud import Cloud, CloudError
from mayfly.cloud.denied import API_OFF, BILLING_OFF
from mayfly.errors import FailedError
from mayfly.setup import releases
from mayfly.setup.look import HF_SECRET, Found, Wish, billing_off

T = TypeVar("T")

ROTATION = timedelta(days=90)
ENABLE_LIMIT_S = 300.0
SETTLE_LIMIT_S = 180.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
LABELS = {names.LABEL_LAYER: names.FOUNDATION}
BUCKET = {
    "versioning": {"enabled": True},
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    },
}
# Noncurrent versions are for a mistake of last week, not for ever.
LIFECYCLE = {
    "rule": [
        {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}},
    ]
}


@dataclass(frozen=True)
class Step:
    """What the user is shown before, and what is then done."""

    line: str
    run: Callable[[], None]


def steps(cloud: Cloud, wish: Wish, found: Found, say: Callable[[str], None]) -> list[Step]:
    """What is missing in Google, in the order in which it must be made; [] if nothing is."""
    maker = Maker(cloud, wish, found, say)
    made = []
    if found.apis_off:
        made.append(Step(f"switch on the APIs {', '.join(map(short, found.apis_off))}", maker.apis))
    if found.bucket is None:
        line = f"make the state bucket gs://{wish.bucket} in {wish.region}, versioned and private"
        made.append(Step(line, maker.bucket))
    elif bucket_changes(found.bucket):
        line = f"change gs://{wish.bucket}: {', '.join(bucket_changes(found.bucket))}"
        made.append(Step(line, maker.mend_bucket))
    if wish.state_key and not found.key:
        line = f"make the key {wish.state_key} (some cents a month; Google never deletes one)"
        made.append(Step(line, maker.key))
    if wish.token and wish.token != found.token:
        made.append(Step(f"put the hub's token into the secret {HF_SECRET}", maker.token))
    if not found.engine:
        line = f"bring pulumi {releases.PULUMI_VERSION} and its plugins into the bucket, for the "
        made.append(Step(line + "reaper (some 200 MB)", maker.engine))
    return made


def short(api: str) -> str:
    return api.removesuffix(".googleapis.com")


def bucket_changes(bucket: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a bucket lacks, in words, and the fields that give it that."""
    config = bucket.get("iamConfiguration") or {}
    found: dict[str, dict[str, Any]] = {}
    if not (bucket.get("versioning") or {}).get("enabled"):
        found["keep old versions"] = {"versioning": {"enabled": True}}
    if not (config.get("uniformBucketLevelAccess") or {}).get("enabled"):
        uniform = {"uniformBucketLevelAccess": {"enabled": True}}
        found["one policy for all its objects"] = {"iamConfiguration": uniform}
    return found


class Maker:
    """Each method is one step."""

    def __init__(self, cloud: Cloud, wish: Wish, found: Found, say: Callable[[str], None]) -> None:
        self._cloud, self._wish, self._found, self._say = cloud, wish, found, say

    def apis(self) -> None:
        switch_on(self._cloud, self._found.apis_off)

    def bucket(self) -> None:
        wanted = {
            "name": self._wish.bucket,
            "location": self._wish.region,
            "labels": LABELS,
            "lifecycle": LIFECYCLE,
            **BUCKET,
        }
        settled(lambda: self._cloud.storage.create_bucket(self._wish.project, wanted))

    def mend_bucket(self) -> None:
        changes: dict[str, Any] = {}
        for fields in bucket_changes(self._found.bucket or {}).values():
            changes |= fields
        self._cloud.storage.change_bucket(self._wish.bucket, changes)

    def key(self) -> None:
        """The ring, then the key; one that is there by now is as good."""
        ring, _, key = self._wish.state_key.partition("/cryptoKeys/")
        parent, _, ring_id = ring.partition("/keyRings/")
        if not self._found.ring:
            path = f"{parent}/keyRings?keyRingId={ring_id}"
            settled(lambda: self._make("kms", path, {}))
        due = (datetime.now(UTC) + ROTATION).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = {
            "purpose": "ENCRYPT_DECRYPT",
            "labels": LABELS,
            "rotationPeriod": f"{ROTATION.total_seconds():.0f}s",
            "nextRotationTime": due,
        }
        settled(lambda: self._make("kms", f"{ring}/cryptoKeys?cryptoKeyId={key}", wanted))

    def token(self) -> None:
        """Straight to Secret Manager: no file, no argument and no state ever holds it."""
        parent = f"projects/{self._wish.project}"
        if not self._found.secret:
            wanted = {"replication": {"automatic": {}}, "labels": LABELS}
            path = f"{parent}/secrets?secretId={HF_SECRET}"
            settled(lambda: self._make("secrets", path, wanted))
        data = base64.b64encode(self._wish.token.encode()).decode()
        path = f"{parent}/secrets/{HF_SECRET}:addVersion"
        self._cloud.ask("POST", "secrets", path, {"payload": {"data": data}})

    def engine(self) -> None:
        releases.bring(self._cloud, self._wish.bucket, self._say)

    def _make(self, product: str, path: str, body: dict[str, Any]) -> None:
        try:
            self._cloud.ask("POST", product, path, body)
        except CloudError as error:
            if error.status != 409:
                raise


def switch_on(cloud: Cloud, apis: Sequence[str]) -> None:
    """Switch APIs on. Returns when Google says that all of them are."""
    path = f"projects/{cloud.project}/services:batchEnable"
    try:
        operation = cloud.ask("POST", "services", path, {"serviceIds": list(apis)})
    except CloudError as error:
        if error.denied == BILLING_OFF:
            raise billing_off(cloud.project) from error
        raise
    deadline = time.monotonic() + ENABLE_LIMIT_S
    for wait_s in waits():
        if operation is None or operation.get("done") or "name" not in operation:
            break
        if time.monotonic() > deadline:
            raise FailedError(
                f"Google has not switched the APIs on within {ENABLE_LIMIT_S:.0f} s.",
                "Nothing else was made; nothing is billed.",
                "Try: the same command again in a minute",
            )
        time.sleep(wait_s)
        operation = cloud.ask("GET", "services", str(operation["name"]))
    if operation and operation.get("error"):
        raise FailedError(
            f"Google did not switch the APIs on: {operation['error'].get('message')}",
            "Nothing else was made; nothing is billed.",
        )


def settled(make: Callable[[], T]) -> T:
    """The first call after an API was switched on may be refused for some minutes yet."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    for wait_s in waits():
        try:
            return make()
        except CloudError as error:
            if error.denied != API_OFF or time.monotonic() > deadline:
                raise
        time.sleep(wait_s)
    raise AssertionError("waits() never ends")


def waits() -> Iterator[float]:
    """Doubling, up to LONGEST_WAIT_S; without end."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
