"""Who may what, once the foundation is there: each role's refusals for real, and what it must do.

The bindings are the foundation's own (see bindings.py), the calls are REST, the refusals Google's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from flask import Request, Response

from local.rest.access import Resource, decide
from local.rest.deployments import Functions
from local.rest.identity import Principal
from local.rest.machines import NoMachines
from local.rest.storage import Buckets
from local.rest.world import World
from tests.cloud import bindings
from tests.cloud.conftest import Api, message, spot_vm
from tests.components import layers
from tests.components.mocks import PROJECT
from tests.waiting import wait_until

ZONE = f"/compute/v1/projects/{PROJECT}/zones/us-central1-a"
OURS, OTHER = f"{ZONE}/instances/mayfly-one", f"{ZONE}/instances/database"
WEIGHTS, CACHE = f"{PROJECT}-mayfly-weights", f"{PROJECT}-mayfly-cache"
STATE, SOURCE = f"{PROJECT}-mayfly-state", f"{PROJECT}-mayfly-source"
KEY = f"projects/{PROJECT}/locations/us/keyRings/r/cryptoKeys/k"
HUB_TOKEN = f"/secrets/v1/projects/{PROJECT}/secrets/hub-token"
API_KEY = f"/secrets/v1/projects/{PROJECT}/secrets/mayfly-api-key"
PLACE = f"projects/{PROJECT}/locations/us-central1"
FUNCTION = f"/functions/v2beta/{PLACE}/functions/mayfly-reaper"
POLICY = f"/crm/v1/projects/{PROJECT}"
MEMBER = "ann@example.com"
FOUNDATIONS = ".pulumi/stacks/mayfly/foundation.json"
OBJECTS = {
    WEIGHTS: ("models/m/shard", "models/m/old"),
    CACHE: ("kernels/k/manifest.json",),
    SOURCE: ("reaper.zip",),
    STATE: (
        FOUNDATIONS,
        ".pulumi/stacks/mayfly/one.json",
        ".pulumi/history/mayfly/foundation/x.history.json",
        ".pulumi/locks/organization/mayfly/foundation/x.json",
        ".pulumi/locks/organization/mayfly/one/x.json",
        "engine/manifest.json",
        "leases/one",
        "leases/two",
        "ledger/17.json",
    ),
}


def content(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"


def item(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def upload(bucket: str, name: str) -> str:
    return f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"


def listing(bucket: str) -> str:
    return f"/storage/v1/b/{bucket}/o"


@dataclass(frozen=True)
class Ask:
    """One call of one role. needs: the permission that its refusal names."""

    role: str
    what: str
    method: str
    path: str
    needs: str = ""
    body: Any = None

    def __str__(self) -> str:
        return f"{self.role} {self.what}"


def vm_of(email: str) -> dict[str, Any]:
    return spot_vm(name="mayfly-mine", serviceAccounts=[{"email": email, "scopes": []}])


NODE_EMAIL = f"mayfly-node@{PROJECT}.iam.gserviceaccount.com"
ACCESS = "versions/latest:access"
ON_VMS = [
    ("deletes its own VM", "DELETE", OURS, "compute.instances.delete"),
    ("deletes a VM of others", "DELETE", OTHER, "compute.instances.delete"),
    ("lists VMs", "GET", f"{ZONE}/instances", "compute.instances.list"),
    ("reads a VM", "GET", OURS, "compute.instances.get"),
    ("makes a VM", "POST", f"{ZONE}/instances", "compute.instances.create"),
]
EVERYBODY = [
    (
        "changes who may what",
        "POST",
        f"{POLICY}:setIamPolicy",
        "resourcemanager.projects.setIamPolicy",
    ),
    ("stops a VM", "POST", f"{OURS}/stop", "compute.instances.stop"),
    ("changes metadata", "POST", f"{OURS}/setMetadata", "compute.instances.setMetadata"),
    ("deletes the weights' bucket", "DELETE", f"/storage/v1/b/{WEIGHTS}", "storage.buckets.delete"),
    ("opens a bucket", "PUT", f"/storage/v1/b/{STATE}/iam", "storage.buckets.setIamPolicy"),
    ("deletes the function", "DELETE", FUNCTION, "cloudfunctions.functions.delete"),
    ("deletes a secret", "DELETE", API_KEY, "secretmanager.secrets.delete"),
    ("writes the foundation's state", "POST", upload(STATE, FOUNDATIONS), "storage.objects.create"),
    ("reads the foundation's state", "GET", content(STATE, FOUNDATIONS), "storage.objects.get"),
    (
        "deletes the foundation's state",
        "DELETE",
        item(STATE, FOUNDATIONS),
        "storage.objects.delete",
    ),
    ("writes what the reaper runs", "POST", upload(STATE, "engine/x"), "storage.objects.create"),
    ("writes the reaper's source", "POST", upload(SOURCE, "reaper.zip"), "storage.objects.create"),
]
BODIES = {
    "changes who may what": {"policy": {"bindings": []}},
    "changes metadata": {"items": []},
    "opens a bucket": {"bindings": []},
    "makes a VM": vm_of(NODE_EMAIL),
}
ROLES = ("node", "seeder", "reaper", "scheduler", "build", "member", "stranger")
REFUSED = [
    *(Ask(role, *row, body=BODIES.get(row[0])) for role in ROLES for row in EVERYBODY),
    *(
        Ask(role, *row, body=BODIES.get(row[0]))
        for role in ("node", "seeder", "scheduler", "build", "stranger")
        for row in ON_VMS
    ),
    *(
        Ask(role, f"reads {what}", "GET", path, needs)
        for roles, what, path, needs in (
            ("seeder reaper scheduler build", "the key", f"{API_KEY}/{ACCESS}", "versions.access"),
            ("node reaper scheduler build member", "the hub's token", f"{HUB_TOKEN}/{ACCESS}",
             "versions.access"),
            ("node seeder scheduler build member", "the ledger", content(STATE, "ledger/17.json"),
             "storage.objects.get"),
            ("node seeder scheduler build member", "a session's state",
             content(STATE, ".pulumi/stacks/mayfly/one.json"), "storage.objects.get"),
            ("reaper scheduler build member", "weights", content(WEIGHTS, "models/m/shard"),
             "storage.objects.get"),
            ("reaper scheduler build member", "which weights there are", listing(WEIGHTS),
             "storage.objects.list"),
            ("seeder reaper scheduler build member", "kernel caches",
             content(CACHE, "kernels/k/manifest.json"), "storage.objects.get"),
            ("node seeder scheduler build member", "what the state bucket holds", listing(STATE),
             "storage.objects.list"),
            ("node seeder reaper scheduler member", "the reaper's source",
             content(SOURCE, "reaper.zip"), "storage.objects.get"),
        )
        for role in roles.split()
    ),
    *(
        Ask(role, f"writes {what}", "POST", path, "storage.objects.create")
        for roles, what, path in (
            ("node reaper scheduler build member", "weights", upload(WEIGHTS, "models/m/new")),
            ("seeder reaper scheduler build member", "a cache", upload(CACHE, "kernels/new")),
            ("node seeder scheduler build", "a lease", upload(STATE, "leases/one")),
            ("node seeder scheduler build member", "the ledger", upload(STATE, "ledger/18.json")),
        )
        for role in roles.split()
    ),
    *(
        Ask(role, f"deletes {what}", "DELETE", path, "storage.objects.delete")
        for roles, what, path in (
            ("node reaper scheduler build member", "weights", item(WEIGHTS, "models/m/shard")),
            ("node seeder reaper scheduler build member", "a kernel cache",
             item(CACHE, "kernels/k/manifest.json")),
            ("node seeder scheduler build member", "a lock",
             item(STATE, ".pulumi/locks/organization/mayfly/one/x.json")),
        )
        for role in roles.split()
    ),
    # What a role may do nearly, but not quite.
    Ask("node", "overwrites a kernel cache", "POST", upload(CACHE, "kernels/k/manifest.json"),
        "storage.objects.delete"),
    Ask("node", "learns which sessions have no lease", "GET", content(STATE, "leases/none"),
        "storage.objects.get"),
    Ask("reaper", "deletes a VM of others", "DELETE", OTHER, "compute.instances.delete"),
    Ask("reaper", "makes a VM", "POST", f"{ZONE}/instances", "compute.instances.create",
        vm_of(NODE_EMAIL)),
    Ask("reaper", "breaks the foundation's lock", "DELETE",
        item(STATE, ".pulumi/locks/organization/mayfly/foundation/x.json"),
        "storage.objects.delete"),
    Ask("reaper", "overwrites what it runs", "POST", upload(STATE, "engine/manifest.json"),
        "storage.objects.create"),
    Ask("reaper", "seals by the state's key", "POST", f"/kms/v1/{KEY}:encrypt",
        "cloudkms.cryptoKeyVersions.useToEncrypt", {"plaintext": "eA=="}),
    Ask("node", "unseals by the state's key", "POST", f"/kms/v1/{KEY}:decrypt",
        "cloudkms.cryptoKeyVersions.useToDecrypt", {"ciphertext": "eA=="}),
    Ask("reaper", "wakes itself", "POST",
        f"/scheduler/v1/{PLACE}/jobs/mayfly-reaper:run", "cloudscheduler.jobs.run", {}),
    Ask("member", "deletes a VM of ours", "DELETE", OURS, "compute.instances.delete"),
    Ask("member", "makes a VM", "POST", f"{ZONE}/instances", "compute.instances.create",
        vm_of(NODE_EMAIL)),
    Ask("member", "hears a VM of others", "GET", f"{OTHER}/getGuestAttributes?queryPath=x/",
        "compute.instances.getGuestAttributes"),
    Ask("member", "writes a session's state", "POST",
        upload(STATE, ".pulumi/stacks/mayfly/one.json"), "storage.objects.create"),
    Ask("member", "writes beside the leases", "POST", upload(STATE, "leases-one"),
        "storage.objects.create"),
    Ask("member", "learns which sessions have no lease", "GET", content(STATE, "leases/none"),
        "storage.objects.get"),
    Ask("member", "replaces the key", "POST", f"{API_KEY}:addVersion",
        "secretmanager.versions.add", {"payload": {"data": "eA=="}}),
]  # fmt: skip
PASSES = [
    Ask("node", "lists weights", "GET", listing(WEIGHTS)),
    Ask("node", "reads weights", "GET", content(WEIGHTS, "models/m/shard")),
    Ask("node", "reads kernel caches", "GET", content(CACHE, "kernels/k/manifest.json")),
    Ask("node", "adds a kernel cache", "POST", upload(CACHE, "kernels/new/manifest.json")),
    Ask("node", "reads the key", "GET", f"{API_KEY}/{ACCESS}"),
    Ask("node", "reads a lease", "GET", content(STATE, "leases/one")),
    Ask("seeder", "lists weights", "GET", listing(WEIGHTS)),
    Ask("seeder", "brings weights", "POST", upload(WEIGHTS, "models/m/new")),
    Ask("seeder", "brings weights again", "POST", upload(WEIGHTS, "models/m/new")),
    Ask("seeder", "deletes what is no weight", "DELETE", item(WEIGHTS, "models/m/old")),
    Ask("seeder", "reads the hub's token", "GET", f"{HUB_TOKEN}/{ACCESS}"),
    Ask("seeder", "reads a lease", "GET", content(STATE, "leases/one")),
    Ask("reaper", "lists VMs", "GET", f"/compute/v1/projects/{PROJECT}/aggregated/instances"),
    Ask("reaper", "reads a VM", "GET", OURS),
    Ask("reaper", "hears a VM", "GET", f"{OURS}/getGuestAttributes?queryPath=mayfly/"),
    Ask("reaper", "lists operations", "GET",
        f"/compute/v1/projects/{PROJECT}/aggregated/operations"),
    Ask("reaper", "lists the state bucket", "GET", listing(STATE)),
    Ask("reaper", "reads a session's state", "GET",
        content(STATE, ".pulumi/stacks/mayfly/one.json")),
    Ask("reaper", "writes a session's state", "POST",
        upload(STATE, ".pulumi/stacks/mayfly/one.json")),
    Ask("reaper", "breaks a session's lock", "DELETE",
        item(STATE, ".pulumi/locks/organization/mayfly/one/x.json")),
    Ask("reaper", "reads a lease", "GET", content(STATE, "leases/one")),
    Ask("reaper", "writes the ledger", "POST", upload(STATE, "ledger/18.json")),
    Ask("reaper", "reads what it runs", "GET", content(STATE, "engine/manifest.json")),
    Ask("reaper", "unseals by the state's key", "POST", f"/kms/v1/{KEY}:decrypt"),
    Ask("reaper", "deletes a VM of ours by name", "DELETE", f"{ZONE}/instances/mayfly-two"),
    Ask("build", "reads the reaper's source", "GET", content(SOURCE, "reaper.zip")),
    Ask("member", "lists VMs", "GET", f"/compute/v1/projects/{PROJECT}/aggregated/instances"),
    Ask("member", "reads a VM", "GET", OURS),
    Ask("member", "hears a VM", "GET", f"{OURS}/getGuestAttributes?queryPath=mayfly/"),
    Ask("member", "reads a VM's console", "GET", f"{OURS}/serialPort"),
    Ask("member", "reads the key", "GET", f"{API_KEY}/{ACCESS}"),
    Ask("member", "reads a lease", "GET", content(STATE, "leases/one")),
    Ask("member", "keeps a session", "POST", upload(STATE, "leases/three")),
    Ask("member", "keeps a session longer", "POST", upload(STATE, "leases/one")),
    Ask("member", "gives a session back", "DELETE", item(STATE, "leases/two")),
    Ask("member", "reads the project for its login", "GET", f"/compute/v1/projects/{PROJECT}"),
]  # fmt: skip


class Ticking:
    """A function that is there, without a process."""

    def handle(self, request: Request, path: str) -> Response:
        return Response("ticked")


class House:
    """A project with a foundation, two VMs of ours and one of others', and everybody's tokens."""

    def __init__(self, world: World) -> None:
        self.world, self.owner = world, Api(world)
        self.callers = {
            role: world.identity.mint(f"mayfly-{role}@{PROJECT}.iam.gserviceaccount.com")
            for role in ("node", "seeder", "reaper", "scheduler", "build")
        }
        self.callers["member"] = world.identity.mint(MEMBER, kind="user")
        self.callers["stranger"] = world.identity.mint("eve@example.com", kind="user")

    def call(self, ask: Ask) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.callers[ask.role]}"}
        body: dict[str, Any] = {"json": ask.body} if ask.body is not None else {}
        if ask.path.startswith("/upload"):
            body = {"data": b"new"}
        answer = self.owner.client.open(ask.path, method=ask.method, headers=headers, **body)
        told = answer.get_json(silent=True)
        return answer.status_code, answer.text if told is None else told

    def furnish(self) -> None:
        """All that a foundation's program does not make here: things to have rights on."""
        owner = self.owner
        for bucket, names in OBJECTS.items():
            uniform = {"uniformBucketLevelAccess": {"enabled": True}}
            body = {"name": bucket, "location": "us-central1", "iamConfiguration": uniform}
            good(owner.post(f"/storage/v1/b?project={PROJECT}", body))
            for name in names:
                good(self.put(upload(bucket, name)))
        for secret in ("mayfly-api-key", "hub-token"):
            path = f"/secrets/v1/projects/{PROJECT}/secrets"
            good(owner.post(f"{path}?secretId={secret}", {"replication": {"automatic": {}}}))
            data = base64.b64encode(b"s3cret").decode()
            good(owner.post(f"{path}/{secret}:addVersion", {"payload": {"data": data}}))
        ring = KEY.split("/cryptoKeys")[0]
        good(owner.post(f"/kms/v1/{ring.rpartition('/keyRings')[0]}/keyRings?keyRingId=r", {}))
        key = {"purpose": "ENCRYPT_DECRYPT"}
        good(owner.post(f"/kms/v1/{ring}/cryptoKeys?cryptoKeyId=k", key))
        for name in ("mayfly-one", "mayfly-two", "database"):
            good(owner.post(f"{ZONE}/instances", spot_vm(name=name)))
        vm = owner.get(OURS)[1]
        self.world.machines.guest_attributes(vm["id"], "mayfly/phase", "serving")

    def put(self, path: str) -> tuple[int, Any]:
        headers = {"Authorization": "Bearer fake"}
        answer = self.owner.client.post(path, data=b"old", headers=headers)
        return answer.status_code, answer.get_json(silent=True)

    def deploy(self) -> None:
        body = {
            "buildConfig": {
                "runtime": "python312",
                "entryPoint": "tick",
                "source": {"storageSource": {"bucket": SOURCE, "object": "reaper.zip"}},
            },
            "serviceConfig": {
                "serviceAccountEmail": f"mayfly-reaper@{PROJECT}.iam.gserviceaccount.com"
            },
        }
        path = f"/functions/v2beta/{PLACE}/functions?functionId=mayfly-reaper"
        good(self.owner.post(path, body))
        (deployed,) = self.world.of(Functions).deployed.values()
        wait_until(lambda: deployed.resource["state"] == "ACTIVE", 10)
        deployed.runtime = Ticking()  # type: ignore[assignment]

    def invoke(self, token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return int(self.owner.client.post("/_run/mayfly-reaper/", headers=headers).status_code)

    def inventory(self) -> dict[str, Any]:
        """Everything that a call that was refused must not have touched."""
        return {
            "objects": {
                b: {
                    o["name"]: o["generation"]
                    for o in self.owner.get(listing(b))[1].get("items", ())
                }
                for b in OBJECTS
            },
            "vms": {
                i["name"]: i["status"] for i in self.owner.get(f"{ZONE}/instances")[1]["items"]
            },
            "function": self.owner.get(FUNCTION)[1]["name"],
            "secrets": self.owner.get(f"/secrets/v1/projects/{PROJECT}/secrets")[1],
            "policy": self.owner.post(f"{POLICY}:getIamPolicy", {})[1],
        }


def good(answer: tuple[int, Any]) -> Any:
    status, body = answer
    assert status == 200, body
    return body


@pytest.fixture(scope="module")
def house(storage_server: str) -> Iterator[House]:
    urllib3.request("POST", f"{storage_server}/_internal/delete_all")
    world = World(PROJECT, machines=NoMachines())
    world.of(Buckets).attach(storage_server)
    made = layers.foundation(
        members=json.dumps([f"user:{MEMBER}"]), stateKey=KEY, hfTokenSecret="hub-token"
    ).made
    house = House(world)
    house.furnish()
    bindings.accounts(house.owner, made)
    house.deploy()
    bindings.bind(house.owner, made)
    yield house
    world.close()


@pytest.mark.parametrize("ask", REFUSED, ids=str)
def test_call_is_refused_when_the_role_has_no_business_with_it(house: House, ask: Ask) -> None:
    """A stolen token, a slip or a model that runs wild must end at this."""
    before = house.inventory()

    status, answer = house.call(ask)

    assert status == 403, answer
    assert ask.needs in (answer if isinstance(answer, str) else message(answer))
    assert house.inventory() == before


def test_table_sees_it_when_a_role_is_given_too_much(house: House) -> None:
    """The twin: what is refused above is refused for want of a binding, not by the way we ask."""
    (ask,) = [a for a in REFUSED if str(a) == "node overwrites a kernel cache"]
    path = f"/storage/v1/b/{CACHE}/iam"
    before = good(house.owner.get(f"{path}?optionsRequestedPolicyVersion=3"))
    more = {"role": "roles/storage.objectUser", "members": [f"serviceAccount:{NODE_EMAIL}"]}

    policy = before | {"version": 3, "bindings": [*before["bindings"], more]}
    policy = good(house.owner("PUT", path, policy))
    assert house.call(ask)[0] == 200
    good(house.owner("PUT", path, before | {"version": 3, "etag": policy["etag"]}))
    assert house.call(ask)[0] == 403


def test_refusal_is_in_the_products_own_words(house: House) -> None:
    """The ladder, the doctor and people read them."""
    compute = house.call(Ask("node", "", "DELETE", OURS))[1]["error"]
    storage = house.call(Ask("node", "", "DELETE", item(WEIGHTS, "models/m/shard")))[1]["error"]
    secret = house.call(Ask("node", "", "GET", f"{HUB_TOKEN}/{ACCESS}"))[1]["error"]

    instance = f"projects/{PROJECT}/zones/us-central1-a/instances/mayfly-one"
    assert compute["message"] == f"Required 'compute.instances.delete' permission for '{instance}'"
    assert compute["errors"][0]["reason"] == "forbidden"
    assert storage["message"] == (
        f"{NODE_EMAIL} does not have storage.objects.delete access to the Google Cloud Storage "
        "object. Permission 'storage.objects.delete' denied on resource (or it may not exist)."
    )
    assert secret["details"][0]["reason"] == "IAM_PERMISSION_DENIED"
    assert secret["details"][0]["metadata"]["permission"] == "secretmanager.versions.access"


def test_call_is_answered_when_the_role_needs_it(house: House) -> None:
    """In this order: the last of a role may take away what the first has read."""
    sealed = house.owner.post(f"/kms/v1/{KEY}:encrypt", {"plaintext": "eA=="})[1]["ciphertext"]
    refused = []
    for ask in PASSES:
        body = {"ciphertext": sealed} if ask.path.endswith(":decrypt") else None
        sent = Ask(ask.role, ask.what, ask.method, ask.path, body=body)
        status, answer = house.call(sent)
        if status not in (200, 204):
            refused.append((str(ask), status, answer))

    assert refused == []


def test_function_answers_the_scheduler_and_nobody_else(house: House) -> None:
    """Whoever could call it could make it look, at any time and as often as they like."""
    audience = f"{house.world.base_url}/_run/mayfly-reaper/"
    told = {
        role: house.invoke(
            house.world.identity.mint_id_token(
                f"mayfly-{role}@{PROJECT}.iam.gserviceaccount.com", audience
            )
        )
        for role in ("scheduler", "node", "seeder", "reaper", "build")
    }

    assert told == {"scheduler": 200, "node": 403, "seeder": 403, "reaper": 403, "build": 403}
    assert house.invoke(None) == 403
    assert house.invoke(house.callers["scheduler"]) == 401, "an access token is no ID token"
    assert house.invoke("fake") == 401


def test_nobody_reads_or_writes_anything_without_a_token(house: House) -> None:
    """Anonymous is nobody: on a VM every process can reach the APIs' addresses."""
    client = house.owner.client
    for path in (content(WEIGHTS, "models/m/shard"), listing(STATE), OURS, f"{API_KEY}/{ACCESS}"):
        answer = client.get(path)
        assert answer.status_code == 401, path
    said = client.post(upload(STATE, "leases/one"), data=b"{}").get_json()
    assert message(said).startswith(
        "Anonymous caller does not have storage.objects.create access to the Google Cloud Storage"
    )


def test_number_does_not_pass_a_condition_on_the_name(house: House) -> None:
    """As Google is said to do (docs/decisions/0003): why the reaper has a second way."""
    number = house.owner.get(OURS)[1]["id"]
    status, answer = house.call(Ask("reaper", "", "DELETE", f"{ZONE}/instances/{number}"))

    assert status == 403
    assert message(answer).endswith(f"'projects/{PROJECT}/zones/us-central1-a/instances/{number}'")


@pytest.mark.parametrize(("port", "may"), [(22, True), (8000, False), (3389, False)])
def test_member_tunnels_to_ssh_and_to_no_other_port(house: House, port: int, may: bool) -> None:
    """The endpoint has one door: SSH, and behind it the key."""
    ann = Principal(MEMBER)
    tunnel = Resource("projects/1/iap_tunnel/zones/z/instances/1", "iap.googleapis.com/Tunnel")
    asked = "iap.tunnelInstances.accessViaIAP"

    assert decide(house.world, ann, asked, tunnel, {"destination.port": port}).held is may
    # Where the port is not known, nothing is granted, and the decision says why.
    unknown = decide(house.world, ann, asked, tunnel)
    assert not unknown.held
    assert unknown.problems == ("this request has no destination.port",)


def test_member_is_told_what_a_role_holds_when_it_asks(house: House) -> None:
    """testIamPermissions is how `doctor` and the console look before they try."""
    wanted = ["compute.instances.get", "compute.instances.delete", "iam.serviceAccounts.actAs"]
    asked = Ask("member", "", "POST", f"{POLICY}:testIamPermissions", body={"permissions": wanted})
    account = f"/iam/v1/projects/{PROJECT}/serviceAccounts/{NODE_EMAIL}:testIamPermissions"

    assert house.call(asked) == (200, {"permissions": ["compute.instances.get"]})
    acts = Ask("member", "", "POST", account, body={"permissions": wanted[2:]})
    assert house.call(acts) == (200, {"permissions": ["iam.serviceAccounts.actAs"]})
    stranger = Ask("stranger", "", "POST", f"{POLICY}:testIamPermissions", body=asked.body)
    assert house.call(stranger) == (200, {})
