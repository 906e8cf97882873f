"""How a right is decided: roles, members, conditions; and that every method asks for one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from local.rest.access import OWNER, Resource, decide
from local.rest.app import create_app
from local.rest.cel import CelError, evaluate, extract
from local.rest.discovery import load
from local.rest.errors import ApiError
from local.rest.identity import Identity, Principal, authorize
from local.rest.object_rights import NEEDS
from local.rest.permissions import ROWS
from local.rest.policies import Policies
from local.rest.products import SERVICES
from local.rest.role_permissions import HELD
from local.rest.roles import KNOWN
from local.rest.service import Call
from local.rest.storage import Buckets
from local.rest.world import World
from local.servers import Door, Server
from tests.cloud.conftest import ZONE, Api, message, spot_vm

PROJECT = "/crm/v1/projects/proj"
NODE = "session-node@proj.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{NODE}"
VM = Resource("projects/proj/zones/z/instances/mayfly-one", "compute.googleapis.com/Instance")
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
DELETE = "compute.instances.delete"
FACTS = {
    "resource.name": "projects/_/buckets/b/objects/leases/one",
    "resource.type": "storage.googleapis.com/Object",
    "resource.service": "storage.googleapis.com",
    "request.time": datetime(2026, 11, 23, 12, tzinfo=UTC),
    "destination.port": 22,
}


# -- every method asks


def test_every_method_that_is_handled_has_a_row() -> None:
    """A method that nobody thought of would be everybody's."""
    handled = {method for service in SERVICES for method in service.handlers}

    assert sorted(handled - set(ROWS)) == []
    assert sorted(set(ROWS) - handled) == [], "a row for nothing hides a misspelt one"
    objects = {m for m in load("storage.v1").methods if m.startswith("storage.objects.")}
    assert set(NEEDS) <= objects


def test_method_is_refused_to_everybody_when_it_has_no_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the owner, too, or the gap would not show until somebody else called."""
    monkeypatch.delitem(ROWS, "compute.zones.list")  # type: ignore[arg-type]

    status, answer = Api(world).get("/compute/v1/projects/proj/zones")

    assert status == 403
    assert message(answer) == (
        "The local cloud does not know what permission compute.zones.list needs."
    )


def test_every_row_finds_its_resource_in_the_path() -> None:
    """A row whose place cannot be filled from the path would be a 500 for one caller only."""
    world, user = World("proj"), Identity("dev@example.com", lambda: 0.0).user
    for service in SERVICES:
        for name in service.mounts.values():
            for method in service.handlers:
                if method in load(name).methods:
                    authorize(_call(world, user, name, method))


def _call(world: World, caller: Principal, document: str, method: str) -> Call:
    path = load(document).methods[method].flat_path
    names = [part.split("}")[0] for part in path.split("{")[1:]]
    params = {name.removeprefix("+"): "x" for name in names}
    return Call(
        world=world,
        method_id=method,
        version="v1",
        params=params,
        query={},
        body={},
        raw_body={},
        principal=caller,
    )


# -- roles and members


def give(world: World, role: str, member: str = MEMBER, **fields: Any) -> None:
    binding = {"role": role, "members": [member]} | fields
    world.of(Policies).start("projects/proj", [binding])


def held(world: World, permission: str = DELETE, caller: Principal | None = None) -> bool:
    caller = caller or Principal(NODE, "serviceAccount")
    return decide(world, caller, permission, VM).held


def custom_role(api: Api, **fields: Any) -> str:
    body = {"roleId": "ender", "role": {"title": "t", "includedPermissions": [DELETE]} | fields}
    status, made = api.post("/iam/v1/projects/proj/roles", body)
    assert status == 200
    return str(made["name"])


def test_right_comes_with_the_binding_and_goes_with_it(api: Api, world: World) -> None:
    """Both ways, or a table of refusals would prove nothing."""
    role = custom_role(api)
    assert not held(world)
    give(world, role)
    assert held(world)
    assert not held(world, "compute.instances.stop")
    assert not held(world, caller=Principal(NODE, "user")), "an account is no user"
    give(world, role, "serviceAccount:a@proj.iam.gserviceaccount.com")
    assert not held(world)


def test_custom_role_grants_nothing_when_it_is_deleted_or_disabled(api: Api, world: World) -> None:
    """A role that was taken away must take its rights along."""
    give(world, custom_role(api))
    path = "/iam/v1/projects/proj/roles/ender"

    api("DELETE", path)
    assert not held(world)
    api.post(f"{path}:undelete", {})
    assert held(world)
    api("PATCH", f"{path}?updateMask=stage", {"stage": "DISABLED"})
    assert not held(world)


def test_role_grants_nothing_when_its_permissions_are_not_listed(world: World) -> None:
    """What compute.admin holds is not known here; a guess could hide a missing binding."""
    assert "roles/compute.admin" in KNOWN
    give(world, "roles/compute.admin")

    assert not held(world)
    assert set(HELD) <= KNOWN


def test_account_keeps_no_right_when_it_is_deleted_and_made_anew(api: Api, world: World) -> None:
    """The name is the same; Google's binding is to the old number."""
    body = {"accountId": "node-one"}
    accounts = "/iam/v1/projects/proj/serviceAccounts"
    email = api.post(accounts, body)[1]["email"]
    give(world, custom_role(api), f"serviceAccount:{email}")
    caller = Principal(email, "serviceAccount")
    assert held(world, caller=caller)

    api("DELETE", f"{accounts}/{email}")
    api.post(accounts, body)

    assert not held(world, caller=caller)


def test_bucket_is_its_projects_owners_by_the_members_that_it_was_born_with(world: World) -> None:
    """projectOwner: in a bucket's policy is whoever owns the project, not a user's address."""
    bucket = Resource("projects/_/buckets/b", "storage.googleapis.com/Bucket", "b")
    world.of(Policies).start(
        "b", [{"role": "roles/storage.objectViewer", "members": ["projectOwner:proj"]}]
    )
    other = Principal("ann@example.com")
    assert not decide(world, other, "storage.objects.list", bucket).held

    give(world, OWNER, "user:ann@example.com")

    assert decide(world, other, "storage.objects.list", bucket).held


@pytest.mark.parametrize(
    ("member", "known", "nobody"),
    [("allUsers", True, True), ("allAuthenticatedUsers", True, False), (MEMBER, True, False)],
)
def test_public_member_means_everybody_it_says(
    world: World, member: str, known: bool, nobody: bool
) -> None:
    """allAuthenticatedUsers still leaves out who has no token."""
    give(world, "roles/run.invoker", member)

    service = Resource("s", "run.googleapis.com/Service")
    caller = Principal(NODE, "serviceAccount")
    assert decide(world, caller, "run.routes.invoke", service).held is known
    assert decide(world, None, "run.routes.invoke", service).held is nobody


def test_vm_is_refused_when_its_maker_may_not_act_as_its_account(api: Api, world: World) -> None:
    """Else whoever may make VMs could do all that any account of the project can."""
    creates = [
        f"compute.{what}"
        for what in (
            "instances.create",
            "instances.setLabels",
            "instances.setMetadata",
            "instances.setServiceAccount",
            "disks.create",
            "networks.use",
        )
    ]
    give(world, custom_role(api, includedPermissions=creates))
    api.token = world.identity.mint(NODE)
    runner = "a@proj.iam.gserviceaccount.com"
    body = spot_vm(serviceAccounts=[{"email": runner, "scopes": [CLOUD]}])

    status, answer = api.post(f"{ZONE}/instances", body)
    assert status == 403
    account = f"//iam.googleapis.com/projects/proj/serviceAccounts/{runner}"
    assert f"'iam.serviceAccounts.actAs' denied on resource '{account}'" in message(answer)

    binding = {"role": "roles/iam.serviceAccountUser", "members": [MEMBER]}
    world.of(Policies).start(f"projects/proj/serviceAccounts/{runner}", [binding])
    assert api.post(f"{ZONE}/instances", body)[0] == 200
    status, answer = api.insert(name="mayfly-two", tags={"items": ["x"]})
    assert (status, "compute.instances.setTags" in message(answer)) == (403, True)


# -- conditions

HOLD = [
    'resource.name.startsWith("projects/_/buckets/b/objects/leases/")',
    "resource.name.startsWith('projects/_/buckets/b/')",
    '!resource.name.startsWith("projects/_/buckets/c/")',
    'resource.name.extract("/objects/{name}").startsWith("leases/")',
    'resource.name.endsWith("/one") && resource.service == "storage.googleapis.com"',
    'resource.type == "storage.googleapis.com/Bucket" || destination.port == 22',
    'request.time < timestamp("2026-12-01T00:00:00Z")',
    '(destination.port != 22 || resource.type != "x") && !(destination.port > 22)',
    "true",
]
FAIL = [
    'resource.name.startsWith("leases/")',
    'resource.type == "storage.googleapis.com/Bucket"',
    'request.time >= timestamp("2026-12-01T00:00:00+01:00")',
    "destination.port == 8000",
    "!(destination.port == 22) && true",
    "false || false",
]
OUTSIDE = {
    'resource.name.matches(".*")': "`.matches()`",
    'resource.name.contains("x")': "`.contains()`",
    "resource.matchTag('a', 'b')": "`resource.matchTag`",
    'api.getAttribute("a", [])': "`[])`",
    'api.getAttribute("a", "b") == "c"': "`api.getAttribute`",
    'true || resource.name.matches(".*")': "`.matches()`",
    'request.time.getHours("UTC") < 8': "`.getHours()`",
    "destination.port + 1 == 23": "`+ 1 == 23`",
    "resource.name.startsWith(resource.type)": "`resource.type` where a string should be",
    "destination.port == 22 22": "`22`",
    "resource.name.startsWith('a'": "`its end` where `)` should be",
    "(true": "`its end` where `)` should be",
    "": "`its end`",
}
ODD = {
    "destination.port": "is no boolean",
    "destination.port && true": "22 is no boolean",
    "!destination.port": "22 is no boolean",
    'destination.port == "22"': "no such overload",
    'destination.port.startsWith("2")': "22 is no string",
    'request.time < timestamp("tomorrow")': "`tomorrow` is no RFC 3339 time",
    'request.time < timestamp("2026-12-01T00:00:00")': "is no RFC 3339 time",
    'resource.name.extract("no braces") == ""': "is no template for extract()",
}


@pytest.mark.parametrize("expression", HOLD)
def test_condition_holds_when_it_is_true(expression: str) -> None:
    assert evaluate(expression, FACTS) is True


@pytest.mark.parametrize("expression", FAIL)
def test_condition_fails_when_it_is_false(expression: str) -> None:
    assert evaluate(expression, FACTS) is False


@pytest.mark.parametrize(("expression", "text"), (OUTSIDE | ODD).items())
def test_condition_is_an_error_when_it_is_not_understood(expression: str, text: str) -> None:
    """Never a pass: a binding that we misread would hide that Google refuses, or does not."""
    with pytest.raises(CelError) as found:
        evaluate(expression, FACTS)

    assert text in str(found.value)


def test_condition_is_an_error_when_the_request_lacks_what_it_asks() -> None:
    with pytest.raises(CelError, match=r"this request has no destination\.port"):
        evaluate("destination.port == 22", {"resource.name": "x"})


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("/objects/{name}", "data/orders/date=1/x"),
        ("buckets/{name}/", "acme"),
        ("{start}/objects/", "projects/_/buckets/acme"),
        ("/date={date}/", "1"),
        ("/instances/{name}", ""),
        ("/orders/{none}/date=2", ""),
        ("{all}", "projects/_/buckets/acme/objects/data/orders/date=1/x"),
    ],
)
def test_extract_takes_what_stands_between(template: str, value: str) -> None:
    """IAM's own function: no match is the empty string, which starts with nothing of ours."""
    assert extract("projects/_/buckets/acme/objects/data/orders/date=1/x", template) == value


def test_refusal_names_the_condition_when_it_could_not_be_evaluated(api: Api, world: World) -> None:
    """Else a right that is there for all to see would be refused without a reason."""
    condition = {"title": "t", "expression": 'resource.name.matches("mayfly-.*")'}
    give(world, custom_role(api), condition=condition)
    api.token = world.identity.mint(NODE)

    status, answer = api("DELETE", f"{ZONE}/instances/mayfly-one")

    assert status == 403
    assert "the local cloud does not evaluate `.matches()` in the condition" in message(answer)


def test_condition_sees_no_name_when_the_type_has_none_for_iam(world: World) -> None:
    """A list is asked on the project: `startsWith("mayfly-")` on its VMs would never hold."""
    condition = {"title": "t", "expression": 'resource.name != ""'}
    give(world, "roles/run.invoker", condition=condition)
    caller = Principal(NODE, "serviceAccount")
    service = Resource("projects/proj/x", "run.googleapis.com/Service")

    assert not decide(world, caller, "run.routes.invoke", service).held
    bucket = Resource("projects/_/buckets/b", "storage.googleapis.com/Bucket")
    assert decide(world, caller, "run.routes.invoke", bucket).held


# -- objects


@pytest.fixture
def bucket(api: Api, stored: str, world: World) -> str:
    uniform = {"uniformBucketLevelAccess": {"enabled": True}}
    body = {"name": "proj-one", "location": "us-central1", "iamConfiguration": uniform}
    assert api.post("/storage/v1/b?project=proj", body)[0] == 200
    return "/storage/v1/b/proj-one/o"


def allow(world: World, *roles: str) -> None:
    world.of(Policies).start(
        "projects/_/buckets/proj-one", [{"role": f"roles/{r}", "members": [MEMBER]} for r in roles]
    )


def send(api: Api, path: str, method: str = "POST", **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    answer = api.client.open(path, method=method, headers=headers, **options)
    return answer.status_code, answer


ONE = "/upload/storage/v1/b/proj-one/o?name=one&uploadType="


def test_creator_adds_and_never_replaces_whatever_the_way(
    api: Api, world: World, bucket: str
) -> None:
    """A cache that a node could replace would run, as compiled code, in the next session."""
    allow(world, "storage.objectCreator")
    api.token = world.identity.mint(NODE)
    assert send(api, f"{ONE}media", data=b"first")[0] == 200
    started = send(api, ONE.replace("one", "two", 2).replace("proj-two", "proj-one") + "resumable")
    assert started[0] == 200

    ways = {
        "media": lambda: send(api, f"{ONE}media", data=b"second"),
        "resumable": lambda: send(api, f"{ONE}resumable", json={}),
        "compose": lambda: send(api, f"{bucket}/one/compose", json={"sourceObjects": []}),
        "xml": lambda: send(api, "/proj-one/one", "DELETE"),
        "delete": lambda: send(api, f"{bucket}/one", "DELETE"),
        "patch": lambda: send(api, f"{bucket}/one", "PATCH", json={"metadata": {"a": "b"}}),
        "read": lambda: send(api, f"{bucket}/one?alt=media", "GET"),
        "copy": lambda: send(api, f"{bucket}/one/rewriteTo/b/proj-one/o/three"),
        "list": lambda: send(api, bucket, "GET"),
    }

    assert {way: ask()[0] for way, ask in ways.items()} == dict.fromkeys(ways, 403)


def test_replacing_is_asked_again_when_an_upload_ends(api: Api, world: World, bucket: str) -> None:
    """Two nodes begin the same cache; the second to end must not replace the first's."""
    allow(world, "storage.objectCreator")
    api.token = world.identity.mint(NODE)
    slow = send(api, f"{ONE}resumable", json={})[1].headers["Location"].partition("localhost")[2]
    assert send(api, f"{ONE}media", data=b"first")[0] == 200

    status, answer = send(api, slow, "PUT", data=b"second")

    assert status == 403
    assert "does not have storage.objects.delete access" in message(answer.get_json())


def test_user_replaces_reads_and_deletes(api: Api, world: World, bucket: str) -> None:
    """The twin: the same ways, with the right to."""
    allow(world, "storage.objectUser")
    api.token = world.identity.mint(NODE)
    statuses = [
        send(api, f"{ONE}media", data=b"first")[0],
        send(api, f"{ONE}media", data=b"second")[0],
        send(api, f"{bucket}/one?alt=media", "GET")[0],
        send(api, f"{bucket}/one", "PATCH", json={"metadata": {"a": "b"}})[0],
        send(api, f"{bucket}/one/rewriteTo/b/proj-one/o/three")[0],
        send(api, bucket, "GET")[0],
        send(api, f"{bucket}/one", "DELETE")[0],
    ]

    assert statuses == [200, 200, 200, 200, 200, 200, 204]


def test_missing_object_is_403_to_who_may_not_list(api: Api, world: World, bucket: str) -> None:
    """Google tells nobody by a 404 what they may not list: a lease that is not there is a 403."""
    only = {
        "title": "t",
        "expression": 'resource.name.startsWith("projects/_/buckets/proj-one/objects/leases/")',
    }
    reads = {"role": "roles/storage.objectViewer", "members": [MEMBER]}
    world.of(Policies).start("projects/_/buckets/proj-one", [reads | {"condition": only}])
    api.token = world.identity.mint(NODE)
    path = f"{bucket}/leases%2Fnone?alt=media"
    assert send(api, path, "GET")[0] == 403

    allow(world, "storage.objectViewer")
    assert send(api, path, "GET")[0] == 404


def test_door_of_ones_own_is_the_owners_and_lends_nobody_else_a_right(
    api: Api, world: World, bucket: str
) -> None:
    """STORAGE_EMULATOR_HOST makes Google's clients send no token; a reaper's must be a reaper's."""
    allow(world, "storage.objectCreator")
    app = create_app(world)
    plain, own = Door("http"), Door("http", Principal(NODE, "serviceAccount"))
    servers = [Server(app, plain), Server(app, own)]
    try:
        told = {
            name: urllib3.request("POST", f"{door.url}{ONE}media", body=b"x", retries=False).status
            for name, door in (("plain", plain), ("own", own))
        }
        again = urllib3.request("POST", f"{own.url}{ONE}media", body=b"x", retries=False).status
    finally:
        for server in servers:
            server.stop()

    assert (told, again) == ({"plain": 401, "own": 200}, 403)
    named = [
        c["principal"] for c in world.calls.report()["calls"] if c["id"] == "storage.objects.insert"
    ]
    assert named == [None, NODE, NODE]


def test_bucket_that_is_not_there_is_a_404_to_everybody(
    api: Api, world: World, bucket: str
) -> None:
    """Bucket names are public at Google: a typo must not read as a missing right."""
    api.token = world.identity.mint(NODE)

    status, answer = send(api, "/storage/v1/b/proj-typo/o/x", "GET")

    assert (status, message(answer.get_json())) == (404, "The specified bucket does not exist.")
    with pytest.raises(ApiError, match="does not exist"):
        world.of(Buckets).require("proj-typo")
