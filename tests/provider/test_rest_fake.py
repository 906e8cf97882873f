"""Every type against the REST fake, which checks each call by Google's own discovery documents."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from local.exports import endpoints
from local.provider.google import Google
from local.provider.values import Object, plain
from local.rest.app import create_app
from local.rest.machines import NoMachines
from local.rest.world import World
from tests.provider.conftest import LoggedLines, asking

REGION = "projects/proj/regions/us-central1"
NETWORK = ("gcp:compute/network:Network", {"name": "net", "autoCreateSubnetworks": False})
ROUTER = (
    "gcp:compute/router:Router",
    {"name": "router", "network": "net", "region": "us-central1"},
)
RING = ("gcp:kms/keyRing:KeyRing", {"name": "ring", "location": "us-central1"})
SECRET = ("gcp:secretmanager/secret:Secret", {"secretId": "key", "replication": {"auto": {}}})
ACCOUNT = ("gcp:serviceaccount/account:Account", {"accountId": "node-one"})
Thing = tuple[str, Object]
# the resource, what it stands on, a change in place
CASES: dict[str, tuple[Thing, list[Thing], Object]] = {
    "network": (NETWORK, [], {}),
    "subnetwork": (
        (
            "gcp:compute/subnetwork:Subnetwork",
            {
                "name": "sub",
                "network": "net",
                "region": "us-central1",
                "ipCidrRange": "10.0.0.0/24",
            },
        ),
        [NETWORK],
        {"privateIpGoogleAccess": True},
    ),
    "firewall": (
        (
            "gcp:compute/firewall:Firewall",
            {
                "name": "iap",
                "network": "net",
                "sourceRanges": ["35.235.240.0/20"],
                "allows": [{"protocol": "tcp", "ports": ["22"]}],
            },
        ),
        [NETWORK],
        {"targetTags": ["node"]},
    ),
    "router": (ROUTER, [NETWORK], {"description": "way out"}),
    "router-nat": (
        (
            "gcp:compute/routerNat:RouterNat",
            {
                "name": "nat",
                "router": "router",
                "region": "us-central1",
                "natIpAllocateOption": "AUTO_ONLY",
                "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
            },
        ),
        [NETWORK, ROUTER],
        {"minPortsPerVm": 128},
    ),
    "address": (
        ("gcp:compute/address:Address", {"name": "addr", "region": "us-central1"}),
        [],
        {"labels": {"mayfly": "session"}},
    ),
    "disk": (
        ("gcp:compute/disk:Disk", {"name": "disk", "zone": "us-central1-a", "size": 20}),
        [],
        {"size": 30, "labels": {"mayfly": "session"}},
    ),
    "account": (ACCOUNT, [], {"displayName": "Node", "description": "reads"}),
    "account-member": (
        (
            "gcp:serviceaccount/iAMMember:IAMMember",
            {
                "serviceAccountId": (
                    "projects/proj/serviceAccounts/node-one@proj.iam.gserviceaccount.com"
                ),
                "role": "roles/iam.serviceAccountUser",
                "member": "user:dev@example.com",
            },
        ),
        [ACCOUNT],
        {},
    ),
    "role": (
        (
            "gcp:projects/iAMCustomRole:IAMCustomRole",
            {"roleId": "ender", "title": "Ender", "permissions": ["compute.instances.delete"]},
        ),
        [],
        {"permissions": ["compute.instances.delete", "compute.instances.get"]},
    ),
    "project-member": (
        (
            "gcp:projects/iAMMember:IAMMember",
            {
                "project": "proj",
                "role": "roles/logging.logWriter",
                "member": "serviceAccount:node-one@proj.iam.gserviceaccount.com",
            },
        ),
        [ACCOUNT],
        {},
    ),
    "secret": (SECRET, [], {"labels": {"mayfly": "foundation"}}),
    "secret-version": (
        (
            "gcp:secretmanager/secretVersion:SecretVersion",
            {"secret": "projects/proj/secrets/key", "secretData": "s"},
        ),
        [SECRET],
        {"enabled": False},
    ),
    "ring": (RING, [], {}),
    "key": (
        (
            "gcp:kms/cryptoKey:CryptoKey",
            {"keyRing": "projects/proj/locations/us-central1/keyRings/ring", "name": "state"},
        ),
        [RING],
        {"rotationPeriod": "7776000s"},
    ),
    "service": (
        ("gcp:projects/service:Service", {"service": "run.googleapis.com", "project": "proj"}),
        [],
        {},
    ),
    "quota": (
        (
            "gcp:cloudquota/sQuotaPreference:SQuotaPreference",
            {
                "parent": "projects/proj",
                "name": "h100",
                "service": "compute.googleapis.com",
                "quotaId": "PREEMPTIBLE-NVIDIA-H100-GPUS-per-project-region",
                "dimensions": {"region": "us-central1"},
                "contactEmail": "dev@example.com",
                "quotaConfig": {"preferredValue": "8"},
            },
        ),
        [],
        {"quotaConfig": {"preferredValue": "16"}},
    ),
}
STAYS = ("ring", "key", "service", "quota")  # cannot be deleted, or is not


@pytest.fixture
def google() -> Iterator[Google]:
    """The provider before a REST fake of its own."""
    world = World("proj", machines=NoMachines())
    server = make_server("127.0.0.1", 0, create_app(world), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    os.environ.update(endpoints(f"http://127.0.0.1:{server.server_port}"))
    os.environ.update({"GOOGLE_PROJECT": "proj", "GOOGLE_OAUTH_ACCESS_TOKEN": "fake"})
    provider = Google(LoggedLines(), sleep=lambda seconds: None)
    provider.configure({})
    yield provider
    server.shutdown()
    thread.join(timeout=60)
    server.server_close()
    world.close()


def made(provider: Google, thing: Thing) -> tuple[str, Object, Object]:
    """(id, inputs, state) of a new resource."""
    token, given = thing
    checked = provider.check(asking(token, inputs=given, seed=b"seed"))
    assert not checked.failures, checked.failures
    identity, state = provider.create(asking(token, inputs=checked.inputs))
    return identity, checked.inputs, plain(state)


@pytest.mark.parametrize("case", sorted(CASES))
def test_resource_lives_and_goes_when_google_checks_every_call(google: Google, case: str) -> None:
    """Made, unchanged, refreshed, changed, gone: without a call that Google would refuse."""
    thing, ground, change = CASES[case]
    for below in ground:
        made(google, below)
    token = thing[0]
    identity, inputs, state = made(google, thing)

    def differences(wanted: Object, now: Object) -> Any:
        return google.diff(
            asking(token, resource_id=identity, old=now, old_inputs=inputs, inputs=wanted)
        )

    assert differences(inputs, state).changes == {}
    found, read, read_inputs = google.read(
        asking(token, resource_id=identity, old=state, old_inputs=inputs)
    )
    assert (found, read_inputs) == (identity, inputs)
    assert differences(inputs, plain(read)).changes == {}
    if change:
        wanted = google.check(asking(token, inputs={**inputs, **change}, old_inputs=inputs)).inputs
        assert differences(wanted, state).replaces == []
        request = asking(token, resource_id=identity, old=state, old_inputs=inputs, inputs=wanted)
        state = plain(google.update(request))
        assert differences(wanted, state).changes == {}
    google.delete(asking(token, resource_id=identity, old=state))
    if case not in STAYS:
        gone = asking(token, resource_id=identity, old=state, old_inputs=inputs)
        assert google.read(gone) == ("", {}, {})
