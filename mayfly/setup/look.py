"""What a project has already, and what stands in the way; reads only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mayfly import names
from mayfly.cloud import Cloud, CloudError
from mayfly.cloud.denied import API_OFF
from mayfly.errors import FailedError, RefusedError, WrongInputError
from mayfly.problems import NOTHING_DONE
from mayfly.setup import releases

T = TypeVar("T")

APIS = tuple(
    f"{name}.googleapis.com"
    for name in (
        *("cloudbilling", "cloudkms", "cloudquotas", "cloudresourcemanager", "compute", "iam"),
        *("secretmanager", "storage"),
    )
)
"""What init, `mayfly quota` and the foundation's first calls need; it turns on the others."""
EXTERNAL_IPS = "constraints/compute.vmExternalIpAccess"
HF_SECRET = "mayfly-hf-token"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user wants. state_key: the key's full name, or "" for a passphrase.

    token: the hub's, if one was given. seeding: whether this project is to seed weights itself.
    """

    project: str
    region: str
    bucket: str
    state_key: str
    token: str
    seeding: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is. bucket: as Google describes it, or None. stacks: in its state.

    token: whether the hub's secret has a value. engine: whether the reaper's is complete.
    """

    apis_off: tuple[str, ...]
    bucket: dict[str, Any] | None
    ring: bool
    key: bool
    secret: bool
    token: str
    engine: bool
    stacks: tuple[str, ...]


def look(cloud: Cloud, wish: Wish) -> Found:
    """Read the project. RefusedError or WrongInputError for what init cannot mend."""
    number, off = apis(cloud)
    if "cloudbilling.googleapis.com" not in off:
        require_billing(cloud)
    if wish.seeding and "cloudresourcemanager.googleapis.com" not in off:
        require_external_addresses(cloud)
    bucket = read_bucket(cloud, wish, number)
    secret = f"projects/{cloud.project}/secrets/{HF_SECRET}"
    ring, key = (False, False) if not wish.state_key else read_key(cloud, wish.state_key)
    return Found(
        apis_off=off,
        bucket=bucket,
        ring=ring,
        key=key,
        secret=there(lambda: cloud.ask("GET", "secrets", secret)),
        token=or_off(lambda: cloud.secrets.access(secret), None) or "",
        engine=bucket is not None and releases.complete(cloud, wish.bucket),
        stacks=stacks(cloud, wish.bucket) if bucket else (),
    )


def apis(cloud: Cloud, wanted: tuple[str, ...] = APIS) -> tuple[str, tuple[str, ...]]:
    """The project's number, and which of these APIs are off; 20 can be asked for at most."""
    query = "&".join(f"names=projects/{cloud.project}/services/{api}" for api in wanted)
    path = f"projects/{cloud.project}/services:batchGet?{query}"
    found = (cloud.ask("GET", "services", path) or {}).get("services") or []
    if not found:
        raise FailedError(f"Google names no API of project {cloud.project}.", NOTHING_DONE)
    on = {str(s["name"]).rpartition("/")[2] for s in found if s.get("state") == "ENABLED"}
    number = str(found[0].get("parent") or found[0]["name"]).split("/")[1]
    return number, tuple(api for api in wanted if api not in on)


def require_billing(cloud: Cloud) -> None:
    info = cloud.ask("GET", "billing", f"projects/{cloud.project}/billingInfo") or {}
    if not info.get("billingEnabled"):
        raise billing_off(cloud.project)


def billing_off(project: str) -> RefusedError:
    return RefusedError(
        f"Billing is off for project {project}: Google would refuse every VM and bucket.",
        NOTHING_DONE,
        f"Try: gcloud billing projects link {project} --billing-account ACCOUNT   (which: gcloud "
        "billing accounts list)",
    )


def require_external_addresses(cloud: Cloud) -> None:
    """RefusedError where the organisation forbids all external addresses: a seed needs one."""
    try:
        policy = effective_policy(cloud, EXTERNAL_IPS)
    except CloudError as error:
        if error.status != 403:
            raise
        return  # not everybody may read policies; then the seeding VM will say it
    if (policy.get("listPolicy") or {}).get("allValues") == "DENY":
        raise RefusedError(
            f"A policy of the organisation, {EXTERNAL_IPS}, forbids external addresses in project "
            f"{cloud.project}: the seeding VM could not reach the model hub.",
            NOTHING_DONE,
            "Try: ask for an exception for this project, or: mayfly init --no-seed   (weights come "
            "from elsewhere)",
        )


def effective_policy(cloud: Cloud, constraint: str) -> dict[str, Any]:
    """What the organisation says of a constraint; CloudError 403 for who may not read policies."""
    path = f"projects/{cloud.project}:getEffectiveOrgPolicy"
    return cloud.ask("POST", "projects", path, {"constraint": constraint}) or {}


def read_bucket(cloud: Cloud, wish: Wish, number: str) -> dict[str, Any] | None:
    """The state bucket, if there is one. WrongInputError for one that cannot serve as ours."""
    try:
        bucket = cloud.storage.bucket(wish.bucket)
    except CloudError as error:
        if error.status != 403 or error.denied:
            raise
        raise not_ours(wish) from error
    if bucket is None:
        return None
    if str(bucket.get("projectNumber")) != number:
        raise not_ours(wish)
    place = str(bucket.get("location", ""))
    if bucket.get("locationType") == "region" and place != wish.region.upper():
        raise WrongInputError(
            f"gs://{wish.bucket} is in {place.lower()}, not in {wish.region}; no bucket can move.",
            NOTHING_DONE,
            f"Try: mayfly init --region {place.lower()}   (or name another: --bucket NAME)",
        )
    return bucket


def not_ours(wish: Wish) -> WrongInputError:
    return WrongInputError(
        f"gs://{wish.bucket} belongs to another project than {wish.project}.",
        NOTHING_DONE,
        f"Try: mayfly init --project {wish.project} --bucket ANOTHER-NAME",
    )


def read_key(cloud: Cloud, state_key: str) -> tuple[bool, bool]:
    """Whether there is the key ring, and whether there is the key."""
    ring = state_key.partition("/cryptoKeys/")[0]
    if not there(lambda: cloud.ask("GET", "kms", ring)):
        return False, False
    return True, there(lambda: cloud.ask("GET", "kms", state_key))


def stacks(cloud: Cloud, bucket: str) -> tuple[str, ...]:
    """The stacks whose state is in the bucket."""
    prefix = names.stack_state("")[: -len(".json")]
    found = (str(item["name"]) for item in cloud.storage.list(bucket, prefix))
    return tuple(n.rpartition("/")[2][: -len(".json")] for n in found if n.endswith(".json"))


def there(read: Callable[[], Any]) -> bool:
    return or_off(read, None) is not None


def or_off(read: Callable[[], T], nothing: T) -> T:
    """`nothing` where the API is off: what it would know of cannot be in use."""
    try:
        return read()
    except CloudError as error:
        if error.denied != API_OFF:
            raise
        return nothing
