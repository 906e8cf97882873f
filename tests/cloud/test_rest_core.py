"""The core of the REST fake: routes and checks from Google's documents, identity, control."""

import httplib2
import pytest
from googleapiclient.discovery import build_from_document

from local.rest.app import create_app
from local.rest.compute.store import Store
from local.rest.discovery import GOOGLE, load
from local.rest.errors import ApiError, Style
from local.rest.fields import masked
from local.rest.identity import Identity
from local.rest.policies import Policies
from local.rest.service import Call, Service
from local.rest.world import World
from tests.cloud.conftest import ZONE, Api, message, spot_vm

SECRETS = "/secrets/v1/projects/proj/secrets"


@pytest.fixture
def secrets(world):
    """A product in the newer style with three handlers."""
    service = Service({"/secrets/": "secretmanager.v1"}, api="secretmanager.googleapis.com")

    @service.method("secretmanager.projects.secrets.create")
    def create(call: Call):
        return {"name": f"{call['parent']}/secrets/{call.query['secretId']}", **call.body}

    @service.method("secretmanager.projects.secrets.get")
    def get(call: Call):
        return {"name": call["name"], "colour": "blue"}

    @service.method("secretmanager.projects.secrets.versions.access")
    def access(call: Call):
        return {"name": f"{call['name']} by {call.principal.member}"}

    client = create_app(world, [service]).test_client()

    def ask(method, path, body=None, token="fake"):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return client.open(path, method=method, json=body, headers=headers)

    return ask


def test_unknown_route_is_404_when_no_document_has_it(secrets):
    """A misspelt endpoint variable must show at once, not as a hang or a 500."""
    answer = secrets("GET", "/secrets/v1/nothing")

    assert answer.status_code == 404
    assert "Method not found" in message(answer.get_json())


def test_known_method_is_501_when_nothing_handles_it(secrets):
    """Clients retry a 500 for minutes; what is missing must say so at once."""
    answer = secrets("DELETE", f"{SECRETS}/a")

    assert answer.status_code == 501
    assert "secretmanager.projects.secrets.delete" in message(answer.get_json())


def test_path_is_told_in_both_forms_when_a_verb_follows_a_colon(secrets):
    """Handlers of the newer products want the whole resource name."""
    answer = secrets("GET", f"{SECRETS}/a/versions/1:access").get_json()

    assert answer["name"] == "projects/proj/secrets/a/versions/1 by user:dev@example.com"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"colour": 1},
            "received. Unknown name \"colour\" at 'secret': Cannot find field.",
        ),
        (
            {"replication": {"automatic": {"x": 1}}},
            "Unknown name \"x\" at 'secret.replication.automatic': Cannot find field.",
        ),
        ({"labels": "none"}, "Invalid value at 'secret.labels'"),
        ({"labels": {"a": 7}}, "Invalid value at 'secret.labels.a' (TYPE_STRING), 7"),
        ([], "Root element must be a message"),
    ],
)
def test_body_is_refused_when_the_document_does_not_have_it(secrets, body, text):
    """A typo that the fake accepts would fail only in a user's real project."""
    answer = secrets("POST", f"{SECRETS}?secretId=a", body).get_json()

    assert answer["error"]["status"] == "INVALID_ARGUMENT"
    assert text in message(answer)


def test_every_unknown_field_is_named_when_there_are_several(secrets):
    """Google reports them all; so must the fake."""
    answer = secrets("POST", f"{SECRETS}?secretId=a", {"one": 1, "two": 2}).get_json()

    assert len(answer["error"]["details"][0]["fieldViolations"]) == 2


def test_query_is_refused_when_the_document_does_not_have_it(secrets):
    """A misspelt query parameter is silently dropped by lax fakes."""
    answer = secrets("POST", f"{SECRETS}?secretId=a&colour=blue", {})

    assert answer.status_code == 400
    assert 'Unknown name "colour": Cannot bind query parameter' in message(answer.get_json())


def test_answer_is_refused_when_the_document_lacks_a_field(secrets):
    """The fake must not teach clients fields that Google does not have."""
    answer = secrets("GET", f"{SECRETS}/a")

    assert answer.status_code == 501
    assert "unknown Secret.colour" in message(answer.get_json())


def test_body_that_is_no_json_is_refused(world):
    """A broken client must not look like an empty request."""
    answer = (
        create_app(world)
        .test_client()
        .post(f"{ZONE}/instances", data="{", headers={"Authorization": "Bearer fake"})
    )

    assert answer.status_code == 400
    assert "Invalid JSON payload received" in message(answer.get_json())


@pytest.mark.parametrize("token", [None, "wrong"])
def test_call_is_401_when_the_token_is_missing_or_wrong(secrets, token):
    """A client that forgot its credentials must fail here as it fails at Google."""
    answer = secrets("GET", f"{SECRETS}/a/versions/1:access", token=token)

    assert answer.status_code == 401
    assert answer.get_json()["error"]["status"] == "UNAUTHENTICATED"
    assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_call_is_403_when_the_api_is_off(world, secrets):
    """The first error of every new project."""
    world.enabled = lambda api: api != "secretmanager.googleapis.com"

    answer = secrets("GET", f"{SECRETS}/a/versions/1:access").get_json()

    assert answer["error"]["code"] == 403
    assert answer["error"]["details"][0]["reason"] == "SERVICE_DISABLED"


def test_handler_of_an_unknown_method_is_refused_when_the_app_is_made(world):
    """A typo in a method id would leave the method answering 501 for ever."""
    service = Service({"/secrets/": "secretmanager.v1"})
    service.method("secretmanager.projects.secrets.creat")(lambda call: {})

    with pytest.raises(LookupError, match=r"secrets\.creat"):
        create_app(world, [service])


def test_service_refuses_a_second_handler_for_a_method():
    """The later one would win in silence."""
    service = Service({"/secrets/": "secretmanager.v1"})
    service.method("secretmanager.projects.secrets.get")(lambda call: {})

    with pytest.raises(ValueError, match="two handlers"):
        service.method("secretmanager.projects.secrets.get")(lambda call: {})


def test_minted_token_names_its_account_until_it_expires(world, clock, secrets):
    """What a VM does must be known as its service account's doing."""
    email = "session-node@proj.iam.gserviceaccount.com"
    reads = {
        "role": "roles/secretmanager.secretAccessor",
        "members": [f"serviceAccount:{email}"],
    }
    world.of(Policies).start("projects/proj", [reads])
    token = world.identity.mint(email, lifetime_s=60)
    path = f"{SECRETS}/a/versions/1:access"

    answer = secrets("GET", path, token=token).get_json()
    clock.now += 61
    late = secrets("GET", path, token=token)

    assert "by serviceAccount:session-node@proj" in answer["name"]
    assert late.status_code == 401


def test_id_token_is_good_for_its_audience_only():
    """A token for one function must not open another."""
    identity = Identity("dev@example.com", lambda: 0.0)
    token = identity.mint_id_token("tick@proj.iam.gserviceaccount.com", "https://one")

    assert identity.oidc(token, "https://one").email == "tick@proj.iam.gserviceaccount.com"
    for use in (lambda: identity.oidc(token, "https://two"), lambda: identity.access(token)):
        with pytest.raises(ApiError, match="invalid authentication"):
            use()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"colour": "blue"},
            "Unknown name \"colour\" at 'resource': Cannot find field.",
        ),
        (
            {"scheduling": {"provisioningModel": "CHEAP"}},
            "Invalid value at 'resource.scheduling.provisioningModel'",
        ),
        ({"scheduling": {"preemptible": "yes"}}, '(TYPE_BOOL), "yes"'),
        ({"scheduling": {"maxRunDuration": {"seconds": "1h"}}}, '(TYPE_INT64), "1h"'),
        ({"name": None}, "Invalid value for field 'resource.name': ''"),
        ({"name": "Mayfly"}, "Invalid value for field 'resource.name': 'Mayfly'. Must be a match"),
        ({"tags": {"items": ["A_b"]}}, "'resource.tags.items[0]': 'A_b'. Must be a match"),
    ],
)
def test_compute_refuses_what_its_document_does_not_have(api, change, text):
    """Compute writes the same refusals in its own form, with errors[]."""
    status, answer = api.insert(**change)

    assert status == 400
    assert text in message(answer)
    assert answer["error"]["errors"][0]["message"] == message(answer)


@pytest.mark.parametrize(
    "scheduling",
    [
        {"nodeAffinities": [None], "instanceTerminationAction": "DELETE"},
        {"gracefulShutdown": None, "maxRunDuration": None, "hostErrorTimeoutSeconds": None},
        {"instanceTerminationAction": "", "onHostMaintenance": "TERMINATE"},
    ],
)
def test_compute_takes_empty_values_as_not_given(api, scheduling):
    """The provider sends null, "" and [null] for whatever is unset."""
    status, answer = api.insert(scheduling={"provisioningModel": "SPOT", **scheduling})

    assert status == 200, answer


def test_int64_is_answered_as_text_when_it_was_sent_as_a_number(api):
    """The provider fails to parse a number there."""
    api.insert()

    _, answer = api.get(f"{ZONE}/instances/mayfly-one")

    assert answer["scheduling"]["maxRunDuration"]["seconds"] == "3600"


def test_v1_leaves_out_what_only_beta_has(api):
    """One store serves both versions."""
    beta = set(load("compute.beta").schemas["Instance"]["properties"])
    v1 = set(load("compute.v1").schemas["Instance"]["properties"])
    only_beta = sorted(beta - v1 - {"kind"})
    api.insert()
    instance = api.world.of(Store).all("instances")[0]
    instance[only_beta[0]] = {}

    _, answer = api.get(f"{ZONE}/instances/mayfly-one")
    _, wider = api.get(f"{ZONE.replace('v1', 'beta')}/instances/mayfly-one")

    assert only_beta[0] not in answer
    assert only_beta[0] in wider


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("a/b,c", {"a": [{"b": 1}], "c": 3}),
        ("a(b)", {"a": [{"b": 1}]}),
        ("", {"a": [{"b": 1, "x": 2}], "c": 3, "d": 4}),
        ("a/*", {"a": [{"b": 1, "x": 2}]}),
    ],
)
def test_fields_select_parts_of_an_answer(fields, expected):
    """The provider asks Service Usage for two fields only."""
    assert expected == masked({"a": [{"b": 1, "x": 2}], "c": 3, "d": 4}, fields)


def test_fields_that_do_not_parse_are_refused():
    """Else a typo would read as "no such service"."""
    with pytest.raises(ApiError, match="Invalid field selection"):
        masked({}, "a(b")


def test_settings_change_in_place_when_they_are_known(api):
    """Machines hold the same dict."""
    held = api.world.settings

    status, answer = api.post("/_local/settings", {"driver": "570.1", "gib": "true"})

    assert status == 200
    assert (answer["driver"], answer["gib"]) == ("570.1", True)
    assert held["driver"] == "570.1"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drivers": 1}, "unknown setting 'drivers'"),
        ({"gib": "maybe"}, "neither true nor false"),
        ({"boot_delay_s": -1}, "not a number of 0 or more"),
        ([], "JSON object"),
    ],
)
def test_settings_refuse_what_they_do_not_know(api, change, text):
    """A misspelt setting would make a test prove nothing."""
    status, answer = api.post("/_local/settings", change)

    assert status == 400
    assert text in answer["error"]


def test_settings_refuse_an_unknown_one_at_the_start():
    """`--setting` on the command line ends here."""
    with pytest.raises(ValueError, match="unknown setting 'x'"):
        World(settings={"x": 1})


def test_calls_count_products_and_not_the_control_surface(api):
    """The demo reports how many REST calls it made."""
    api.get("/_local/health")
    api.get(f"{ZONE}/instances")
    api.get("/nowhere")

    _, report = api.get("/_local/calls")

    assert report["count"] == 2
    assert [c["id"] for c in report["calls"]] == ["compute.instances.list", None]
    assert [c["status"] for c in report["calls"]] == [200, 404]
    assert report["calls"][0]["principal"] == "dev@example.com"


def test_styles_differ_in_errors_list():
    """Compute's clients read errors[].reason, the newer ones status and details."""
    error = ApiError(409, "taken")

    assert error.body(Style.LEGACY)["error"]["errors"][0]["reason"] == "alreadyExists"
    assert "errors" not in error.body(Style.RPC)["error"]


def test_google_own_client_walks_pages_of_instances(world, served):
    """The documents' own client is the judge of our routes and pages."""
    api = Api(world)
    for name in ("mayfly-a", "mayfly-b", "mayfly-c"):
        assert api.post(f"{ZONE}/instances", spot_vm(name=name))[0] == 200
    http = httplib2.Http(timeout=10)
    inner = http.request
    http.request = lambda uri, *args, headers=None, **more: inner(
        uri, *args, headers={**(headers or {}), "Authorization": "Bearer fake"}, **more
    )
    document = (GOOGLE / "compute.v1.json").read_text()
    document = document.replace("https://compute.googleapis.com/", f"{served}/")
    instances = build_from_document(document, http=http).instances()

    names, request = [], instances.list(project="proj", zone="us-central1-a", maxResults=2)
    while request is not None and len(names) < 10:
        page = request.execute()
        names += [i["name"] for i in page["items"]]
        request = instances.list_next(request, page)

    assert names == ["mayfly-a", "mayfly-b", "mayfly-c"]
