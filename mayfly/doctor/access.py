"""Who asks, and what the project lets happen: login, rights, APIs, billing, policies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud, CloudError
from mayfly.cloud.denied import API_OFF
from mayfly.cloud.errors import NO_CREDENTIALS, UNREACHABLE
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kind
from mayfly.doctor.site import CannotLookError, Foundation, Site
from mayfly.errors import RefusedError
from mayfly.setup import look

ACTIVE = "ACTIVE"
LAUNCH = (
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.getGuestAttributes",
    "compute.subnetworks.use",
    "iam.serviceAccounts.actAs",
)
"""What `mayfly up` does with the user's own rights."""
TUNNEL = "iap.tunnelInstances.accessViaIAP"
LOGIN = ("compute.instances.osLogin", "compute.instances.osAdminLogin")
FOUNDATION_APIS = tuple(
    f"{name}.googleapis.com"
    for name in ("artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "iap", "run")
)
"""What the foundation switches on beside those that `init` does; held to it by a test."""
GUEST_ATTRIBUTES = "constraints/compute.disableGuestAttributesAccess"
OS_LOGIN = "constraints/compute.requireOsLogin"
IMAGES = "constraints/compute.trustedImageProjects"
IMAGE_PROJECT = "projects/ubuntu-os-accelerator-images"


@dataclass(frozen=True)
class Door:
    """What Google says when it is first asked. kind: a finding's, or "" for a project to see."""

    kind: str
    said: str = ""


def look_credentials(site: Site, cloud: Cloud) -> Door:
    try:
        found = cloud.ask("GET", "projects", f"projects/{site.project}")
    except CloudError as error:
        return refused(error)
    if found is None:
        return Door("project-unseen", f"Google knows no project {site.project}.")
    state = str(found.get("lifecycleState", ACTIVE))
    return Door("") if state == ACTIVE else Door("project-closing", f"Its state is {state}.")


def refused(error: CloudError) -> Door:
    if error.reason == NO_CREDENTIALS:
        return Door("credentials-none", error.message)
    if error.reason == UNREACHABLE:
        return Door("google-away", error.in_three_lines().what)
    if error.status == 401:
        return Door("credentials-expired", error.message)
    if error.denied == API_OFF:
        return Door("")  # the project is there; the API's own check names it
    if error.status == 403:
        return Door("project-unseen", error.message)
    raise error


def judge_credentials(site: Site, seen: Door) -> Iterator[Finding]:
    if seen.kind:
        yield kind(seen.kind).finding(seen.said, project=site.project)


def held(cloud: Cloud, wanted: tuple[str, ...]) -> frozenset[str]:
    """Those of the rights that this login has in the project."""
    path = f"projects/{cloud.project}:testIamPermissions"
    found = cloud.ask("POST", "projects", path, {"permissions": list(wanted)}) or {}
    return frozenset(found.get("permissions") or ())


def look_rights(site: Site, cloud: Cloud, base: Foundation) -> frozenset[str]:
    return held(cloud, LAUNCH)


def judge_rights(site: Site, seen: frozenset[str]) -> Iterator[Finding]:
    missing = [right for right in LAUNCH if right not in seen]
    if missing:
        what = f"In project {site.project} this login lacks {', '.join(missing)}."
        yield kind("rights-missing").finding(what, project=site.project)


def look_tunnel(site: Site, cloud: Cloud, base: Foundation) -> frozenset[str]:
    """CannotLookError where only Google's tunnel itself can tell."""
    found = held(cloud, (TUNNEL, *LOGIN))
    members = site.checkout.config(names.FOUNDATION).get("mayfly:members")
    if TUNNEL not in found and members:
        raise CannotLookError(
            "the foundation's members have the right to port 22 only, and Google tells such a "
            "right at the tunnel; `mayfly connect` will show it"
        )
    return found


def judge_tunnel(site: Site, seen: frozenset[str]) -> Iterator[Finding]:
    if TUNNEL not in seen:
        yield kind("tunnel-forbidden").finding(f"This login lacks {TUNNEL}.")
    if not seen.intersection(LOGIN):
        yield kind("login-forbidden").finding(f"This login lacks {' and '.join(LOGIN)}.")


def look_apis(site: Site, cloud: Cloud, base: Foundation) -> tuple[str, ...]:
    """Those that are off and should be on by now."""
    wanted = (*look.APIS, *(FOUNDATION_APIS if base.stands else ()))
    return look.apis(cloud, wanted)[1]


def judge_apis(site: Site, seen: tuple[str, ...]) -> Iterator[Finding]:
    if seen:
        apis = " ".join(seen)
        what = f"Off in project {site.project}: {', '.join(seen)}."
        yield kind("api-off").finding(what, apis, apis=apis, project=site.project)


def look_billing(site: Site, cloud: Cloud, base: Foundation) -> str:
    """What is said where nobody pays; else ""."""
    try:
        look.require_billing(cloud)
    except RefusedError as error:
        return error.what
    return ""


def judge_billing(site: Site, seen: str) -> Iterator[Finding]:
    if seen:
        yield kind("billing-off").finding(seen, project=site.project)


Policies = Mapping[str, Mapping[str, Any]]
"""By constraint, as Cloud Resource Manager says it."""


def look_policies(site: Site, cloud: Cloud, base: Foundation) -> Policies:
    asked = (look.EXTERNAL_IPS, GUEST_ATTRIBUTES, IMAGES, OS_LOGIN)
    return {constraint: look.effective_policy(cloud, constraint) for constraint in asked}


def judge_policies(site: Site, seen: Policies) -> Iterator[Finding]:
    words = {"project": site.project}
    if denies_all(seen[look.EXTERNAL_IPS]):
        yield kind("policy-addresses").finding(enforced(look.EXTERNAL_IPS), **words)
    if is_enforced(seen[GUEST_ATTRIBUTES]):
        found = enforced(GUEST_ATTRIBUTES)
        yield kind("policy-guest-attributes").finding(found, constraint=GUEST_ATTRIBUTES, **words)
    if forbids(seen[IMAGES], IMAGE_PROJECT):
        yield kind("policy-images").finding(enforced(IMAGES), image=IMAGE_PROJECT, **words)
    if is_enforced(seen[OS_LOGIN]):
        yield kind("policy-os-login").finding(enforced(OS_LOGIN), **words)


def enforced(constraint: str) -> str:
    return f"The organisation enforces {constraint}."


def is_enforced(policy: Mapping[str, Any]) -> bool:
    return bool((policy.get("booleanPolicy") or {}).get("enforced"))


def denies_all(policy: Mapping[str, Any]) -> bool:
    return (policy.get("listPolicy") or {}).get("allValues") == "DENY"


def forbids(policy: Mapping[str, Any], value: str) -> bool:
    rules = policy.get("listPolicy") or {}
    allowed = [str(v).removeprefix("is:") for v in rules.get("allowedValues") or ()]
    denied = [str(v).removeprefix("is:") for v in rules.get("deniedValues") or ()]
    return denies_all(policy) or value in denied or (bool(allowed) and value not in allowed)
