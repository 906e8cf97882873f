"""Every finding of `mayfly doctor`: its bad case is seen, the good one beside it is not."""

import datetime
import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from components import apis
from mayfly import profile, quota, vms
from mayfly.cloud import CloudError
from mayfly.cloud.errors import refusal
from mayfly.doctor import access, desk, examine, launching, remains, state
from mayfly.doctor.finding import Finding
from mayfly.doctor.kinds import kinds
from mayfly.doctor.launching import Rule, Weights
from mayfly.doctor.mend import MENDS
from mayfly.doctor.page import tables
from mayfly.doctor.remains import Machines, Things
from mayfly.doctor.site import CannotLookError, Foundation, Site, foundation
from mayfly.doctor.state import Bucket, Held, Reaper
from mayfly.locks import Lock
from mayfly.pricing import Rate
from mayfly.project import Project
from mayfly.quota import Limit
from mayfly.settings import DEFAULT_IMAGE
from mayfly.setup import look
from tests.conftest import ROOT
from tests.unit.test_commands_named import unknown

TODAY = datetime.date(2026, 11, 23)
NOW = time.time()
OLD, YOUNG = ("2026-01-01T00:00:00Z", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW)))
SITE = Site(
    checkout=Project(ROOT),
    project="proj",
    bucket="proj-mayfly-state",
    key="projects/proj/locations/l/keyRings/mayfly/cryptoKeys/state",
    profile=profile.load("kimi-k2.5"),
    machine="a3-highgpu-8g",
    zone="us-central1-a",
    provisioning="spot",
    regions=("us-central1",),
    today=TODAY,
)
BASE = Foundation("foundation", {"regions": ["us-central1"]})
NONE = Foundation("foundation", {})
UNREADABLE = Foundation("foundation", {}, "the state cannot be read")
RIGHTS = frozenset(access.LAUNCH)
WAY = frozenset({access.TUNNEL, *access.LOGIN})
CONSTRAINTS = (look.EXTERNAL_IPS, access.GUEST_ATTRIBUTES, access.IMAGES, access.OS_LOGIN)
FREE: dict[str, dict[str, Any]] = {constraint: {} for constraint in CONSTRAINTS}
ENFORCED = {"booleanPolicy": {"enforced": True}}
DENIED = {"listPolicy": {"allValues": "DENY"}}
MARK = {"model-1": (7, "abc=")}
WEIGHTS = Weights(
    foundation=BASE, bucket="w", location="us-central1", files=MARK, listed=MARK, engine=True
)
LOOSE = {"versioning": {"enabled": False}}
TIGHT = {
    "versioning": {"enabled": True},
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
}
REAPER = Reaper(
    foundation=BASE,
    roles=frozenset({state.USER}),
    key_roles=frozenset({state.DECRYPTER}),
    job={"state": "ENABLED"},
)
VM = vms.Vm(
    name="mayfly-dev",
    id="7",
    zone="us-central1-a",
    status="RUNNING",
    layer="session",
    session="dev",
    created_at=NOW - 7200,
    stopped_at=None,
    provisioning="spot",
    settings={},
)
STOPPED = replace(VM, status="TERMINATED", stopped_at=NOW - 3600)
DISK = {
    "name": "mayfly-dev",
    "zone": "https://x/zones/us-central1-a",
    "sizeGb": "100",
    "labels": {"mayfly": "session"},
    "creationTimestamp": OLD,
}
ADDRESS = {
    "name": "a",
    "region": "https://x/regions/us-central1",
    "address": "34.1.2.3",
    "status": "RESERVED",
    "labels": {"mayfly": "seed"},
    "creationTimestamp": OLD,
}
RATE = Rate(
    usd_per_h=38.0,
    source="a page",
    date="2026-06-15",
    place="us-central1",
    machine="a3-highgpu-8g",
    provisioning="spot",
)


def limits(gpus: int) -> quota.Limits:
    needs = quota.needs(launching.MACHINES["a3-highgpu-8g"], "spot", "us-central1")
    values = {need.quota_id: need.least for need in needs} | {needs[0].quota_id: gpus}
    return {name: [Limit(dimensions={}, regions=(), value=v)] for name, v in values.items()}


def lock(age_s: float, alive: bool | None) -> list[Held]:
    made = Lock(
        name=f"{state.LOCKS}dev/x.json",
        generation=1,
        made_at=NOW - age_s,
        holder="ann@desk",
        pid=1,
        host="desk",
    )
    return [Held(made, alive)]


def things(*found: Any) -> Things:
    return Things(found, NOW)


# id: (check's judge, what is seen when it is bad, what is seen when it is good)
CASES: dict[str, tuple[Any, Any, Any]] = {
    "gcloud-missing": (desk.judge_gcloud, desk.Gcloud(False), desk.Gcloud(True, "ann@x.y")),
    "gcloud-no-account": (desk.judge_gcloud, desk.Gcloud(True), desk.Gcloud(True, "ann@x.y")),
    "pulumi-missing": (desk.judge_engine, desk.Pulumi("", "3.259.0"), desk.Pulumi("v3.259.0", "")),
    "pulumi-old": (
        desk.judge_engine,
        desk.Pulumi("v3.99.1", "3.259.0"),
        desk.Pulumi("v3.1000.0", "3.259.0"),
    ),
    "python-missing": (
        desk.judge_sdk,
        desk.Packages({}, {}, "/x/.venv"),
        desk.Packages({"pulumi": "3.1"}, {}),
    ),
    "sdk-other": (
        desk.judge_sdk,
        desk.Packages({"pulumi-gcp": "9.0.0"}, {"pulumi-gcp": "10.2.0"}),
        desk.Packages({"pulumi-gcp": "10.2.0"}, {"pulumi-gcp": "10.2.0"}),
    ),
    "backend-none": (desk.judge_backend, "", f"gs://{SITE.bucket}"),
    "backend-other": (desk.judge_backend, "file://~", f"gs://{SITE.bucket}"),
    "price-old": (desk.judge_prices, RATE, replace(RATE, date="2026-11-01")),
    "rights-missing": (access.judge_rights, RIGHTS - {"compute.instances.create"}, RIGHTS),
    "tunnel-forbidden": (access.judge_tunnel, WAY - {access.TUNNEL}, WAY),
    "login-forbidden": (access.judge_tunnel, frozenset({access.TUNNEL}), WAY - {access.LOGIN[1]}),
    "api-off": (access.judge_apis, ("iap.googleapis.com", "run.googleapis.com"), ()),
    "billing-off": (access.judge_billing, "Billing is off for project proj.", ""),
    "policy-addresses": (access.judge_policies, FREE | {look.EXTERNAL_IPS: DENIED}, FREE),
    "policy-guest-attributes": (
        access.judge_policies,
        FREE | {access.GUEST_ATTRIBUTES: ENFORCED},
        FREE | {access.GUEST_ATTRIBUTES: {"booleanPolicy": {}}},
    ),
    "policy-images": (
        access.judge_policies,
        FREE | {access.IMAGES: {"listPolicy": {"allowedValues": ["projects/cos-cloud"]}}},
        FREE | {access.IMAGES: {"listPolicy": {"allowedValues": [f"is:{access.IMAGE_PROJECT}"]}}},
    ),
    "policy-os-login": (access.judge_policies, FREE | {access.OS_LOGIN: ENFORCED}, FREE),
    "quota-short": (launching.judge_quota, limits(7), limits(8)),
    "firewall-missing": (launching.judge_network, Rule(BASE, None), Rule(BASE, {"name": "x"})),
    "foundation-missing": (launching.judge_foundation, NONE, BASE),
    "weights-bucket-missing": (launching.judge_weights, replace(WEIGHTS, bucket=None), WEIGHTS),
    "weights-missing": (
        launching.judge_weights,
        replace(WEIGHTS, files=None, listed={}),
        WEIGHTS,
    ),
    "weights-unfinished": (launching.judge_weights, replace(WEIGHTS, files=None), WEIGHTS),
    "weights-changed": (
        launching.judge_weights,
        replace(WEIGHTS, listed={"model-1": (7, "abd=")}),
        replace(WEIGHTS, listed=MARK | {"more": (1, "")}),
    ),
    "engine-missing": (launching.judge_weights, replace(WEIGHTS, engine=False), WEIGHTS),
    "weights-apart": (
        launching.judge_weights,
        replace(WEIGHTS, location="europe-west4"),
        replace(WEIGHTS, location=""),
    ),
    "state-bucket-missing": (state.judge_state, Bucket(None), Bucket(TIGHT)),
    "state-bucket-loose": (state.judge_state, Bucket(LOOSE), Bucket(TIGHT)),
    "reaper-engine": (state.judge_state, Bucket(TIGHT, engine=False), Bucket(TIGHT)),
    "reaper-blind": (
        state.judge_reaper,
        replace(REAPER, roles=frozenset({"roles/storage.objectViewer"})),
        REAPER,
    ),
    "reaper-no-key": (
        state.judge_reaper,
        replace(REAPER, key_roles=frozenset()),
        replace(REAPER, key_roles=None),
    ),
    "reaper-missing": (state.judge_reaper, replace(REAPER, job=None), REAPER),
    "reaper-paused": (state.judge_reaper, replace(REAPER, job={"state": "PAUSED"}), REAPER),
    "reaper-failing": (
        state.judge_reaper,
        replace(REAPER, job={"state": "ENABLED", "status": {"code": 13}}),
        replace(REAPER, job={"state": "ENABLED", "status": {}}),
    ),
    "lock-left": (state.judge_locks, lock(5, False), lock(9999, True)),
    "vm-unowned": (
        remains.judge_machines,
        Machines((VM,), frozenset(), NOW),
        Machines((replace(VM, created_at=NOW - 60),), frozenset(), NOW),
    ),
    "vm-stopped": (
        remains.judge_machines,
        Machines((STOPPED,), frozenset({"7"}), NOW),
        Machines((replace(STOPPED, stopped_at=NOW - 60), VM), frozenset({"7"}), NOW),
    ),
    "disk-left": (remains.judge_disks, things(DISK), things(DISK | {"users": ["x"]})),
    "address-left": (
        remains.judge_addresses,
        things(ADDRESS),
        things(ADDRESS | {"status": "IN_USE"}),
    ),
} | {
    name: (access.judge_credentials, access.Door(name, "as Google says"), access.Door(""))
    for name in (
        *("credentials-none", "credentials-expired", "google-away"),
        *("project-unseen", "project-closing"),
    )
}


def test_every_finding_has_a_bad_case_and_a_good_one():
    """A check that nobody saw red may be green for ever."""
    assert set(CASES) == set(kinds())


@pytest.mark.parametrize("id_", CASES)
def test_finding_is_there_when_it_is_bad_and_not_when_it_is_good(id_):
    """With words to understand and words to paste, none left open."""
    judge, bad, good = CASES[id_]

    (found,) = [finding for finding in judge(SITE, bad) if finding.id == id_]

    assert id_ not in {finding.id for finding in judge(SITE, good)}
    assert found.found
    assert found.meaning.endswith((".", "?"))
    assert "{" not in found.remedy + found.meaning
    assert unknown(f"Try: {found.remedy}") == []


@pytest.mark.parametrize(
    ("judge", "seen"),
    [
        (state.judge_locks, lock(60, None)),  # of another machine, and young
        (state.judge_locks, lock(9999, True)),  # a long `up` of this machine
        (remains.judge_disks, things({**DISK, "labels": {"goog-x": "y"}})),
        (remains.judge_disks, things({**DISK, "creationTimestamp": YOUNG})),
        (remains.judge_disks, things({**DISK, "lastDetachTimestamp": YOUNG})),
        (remains.judge_addresses, things({**ADDRESS, "labels": {}})),
        (state.judge_reaper, Reaper(foundation=NONE)),
        (launching.judge_network, Rule(NONE, None)),
        (launching.judge_weights, Weights(foundation=NONE)),
        (desk.judge_prices, None),
        (launching.judge_quota, {}),  # not listed by Cloud Quotas: that stops nobody
    ],
)
def test_nothing_is_found_when_nobody_can_know_or_it_is_not_ours(judge, seen):
    """What is removed or complained of in error costs more trust than it saves money."""
    assert list(judge(SITE, seen)) == []


def test_old_lock_of_another_machine_is_left_behind():
    """The reaper's own rule: no `up` takes an hour."""
    (found,) = state.judge_locks(SITE, lock(3700, None))

    assert re.search(r"ann@desk, \d+ min ago", found.found)
    assert found.subject.startswith(".pulumi/locks/organization/mayfly/dev/")


def test_weights_are_changed_when_the_manifest_is_torn():
    """An empty manifest must not mean that all is there."""
    torn = replace(WEIGHTS, files=launching.of_manifest(b"{"))

    assert [f.id for f in launching.judge_weights(SITE, torn)] == ["weights-changed"]


@pytest.mark.parametrize(
    ("error", "id_"),
    [
        (CloudError(401, "no-credentials", "No usable Google credentials"), "credentials-none"),
        (CloudError(0, "unreachable", "GET h/x: no answer: timed out"), "google-away"),
        (refusal("GET x", 401, "{}"), "credentials-expired"),
        (refusal("GET x", 403, "{}"), "project-unseen"),
        (
            refusal(
                "GET x",
                403,
                json.dumps(
                    {
                        "error": {
                            "message": "Cloud Resource Manager API has not been used in project 1 "
                            "before or it is disabled. See https://c/apis/api/"
                            "cloudresourcemanager.googleapis.com/overview"
                        }
                    }
                ),
            ),
            "",
        ),
    ],
)
def test_door_tells_one_refusal_from_another(error, id_):
    """Offline, logged out and the wrong account have three remedies."""
    assert access.refused(error).kind == id_


def test_door_makes_no_finding_of_what_it_does_not_know():
    """A 500 of Google's is nobody's login."""
    with pytest.raises(CloudError):
        access.refused(refusal("GET x", 500, "{}"))


class Members:
    """A checkout whose foundation has members."""

    root = ROOT

    def config(self, stack: str) -> dict[str, Any]:
        return {"mayfly:members": ["user:ann@example.com"]}


class Asked:
    """A cloud that answers every question with one thing."""

    def __init__(self, answer: Any) -> None:
        self.project, self._answer = "proj", answer

    def ask(self, *_: Any) -> Any:
        return self._answer


def test_tunnel_is_not_known_when_the_right_may_be_one_to_a_port_only():
    """The foundation's members would all be told that they may not."""
    site = replace(SITE, checkout=Members())

    with pytest.raises(CannotLookError, match="at the tunnel"):
        access.look_tunnel(site, Asked({}), BASE)
    assert access.look_tunnel(SITE, Asked({}), BASE) == frozenset()
    assert access.look_tunnel(site, Asked({"permissions": [access.TUNNEL]}), BASE)


@pytest.mark.parametrize(
    "look_",
    [
        launching.look_foundation,
        launching.look_network,
        launching.look_weights,
        state.look_reaper,
        access.look_apis,
    ],
)
def test_check_is_not_known_when_the_foundation_cannot_be_read(look_):
    """ "No foundation" would be a green light for everything that stands on it."""
    with pytest.raises(CannotLookError, match="cannot be read"):
        look_(SITE, Asked({}), UNREADABLE)


class Refusing:
    """A cloud whose storage refuses."""

    class storage:  # noqa: N801
        @staticmethod
        def get(*_: str) -> None:
            raise refusal("GET b", 403, "{}")


def test_foundation_is_not_known_when_the_state_is_forbidden():
    """As it is for a member, who reads no state."""
    found = foundation(SITE, Refusing())

    assert "cannot be read" in found.unknown


def test_lock_is_dead_only_when_it_is_ours_and_its_process_is_gone():
    """Another machine's process of that number says nothing."""
    import getpass
    import os
    import socket
    import subprocess

    done = subprocess.Popen(["true"])
    done.wait()
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    (held,) = lock(5, None)

    def alive(pid: object, holder: str) -> bool | None:
        return state.is_alive(replace(held.lock, pid=pid, holder=holder))

    assert alive(done.pid, me) is False
    assert alive(os.getpid(), me) is True
    assert alive(done.pid, "ann@another") is None
    assert alive("7", me) is None
    assert alive(-1, me) is None


def test_apis_are_those_that_the_foundation_switches_on():
    """One that is added there has to be looked for here."""
    ours = {api.removesuffix(".googleapis.com") for api in (*look.APIS, *access.FOUNDATION_APIS)}

    assert set(apis.SERVICES) <= ours
    assert len(look.APIS) + len(access.FOUNDATION_APIS) <= 20  # in one question
    assert access.IMAGE_PROJECT in DEFAULT_IMAGE["session"]


def test_what_fix_does_is_what_the_table_says():
    """A row that promises it, or a hand that nobody announced."""
    assert {k.id for k in kinds().values() if k.fix} == set(MENDS)
    assert {k.check for k in kinds().values()} == set(examine.CHECKS)


def test_report_shows_the_grave_ones_first_and_counts_nothing_twice():
    """Exit and eye go by the first."""
    report = examine.Report(
        findings={"prices": [Finding("p", "", "", grave=False)], "locks": [Finding("l", "", "")]},
        unknown={"quota": "403"},
    )

    assert [f.id for f in report.all] == ["l", "p"]
    assert {"prices", "locks", "quota"}.isdisjoint(report.fine)
    assert len(report.fine) == len(examine.CHECKS) - 3


def test_page_is_what_the_code_makes():
    """python -m mayfly.doctor.page writes it anew."""
    page = (ROOT / "docs/doctor.md").read_text()

    assert page.endswith(tables() + "\n")


def test_page_has_every_finding_once():
    """The gate's twin: a generator that makes nothing would be content with nothing."""
    page = tables()

    assert all(page.count(f"| `{id_}` | {kind.check} |") == 1 for id_, kind in kinds().items())
