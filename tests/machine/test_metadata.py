"""The metadata server's contract: what Google's clients and our scripts ask of it."""

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.machine import metadata
from local.machine.oslogin import OsLogin
from tests.machine.conftest import EXTERNAL, NUMBER, PROJECT, instance

EMAIL = f"node@{PROJECT}.iam.gserviceaccount.com"


@pytest.fixture
def server(tmp_path):
    """A metadata server on a port of ours, and what it was told."""
    told = []
    resource = instance("#!/bin/sh\n", networkInterfaces=EXTERNAL)
    source = metadata.Source(
        project=metadata.Project(PROJECT, NUMBER),
        instance=lambda: resource,
        token=lambda email: f"token-of-{email}",
        identity=lambda email, audience: f"oidc-{email}-for-{audience}",
        attribute=lambda name, value: told.append((name, value)),
        oslogin=OsLogin(tmp_path),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    tree = metadata.Tree(source)
    running = metadata.serve(listener, tree)
    client = Client(f"http://127.0.0.1:{port}", resource, told)
    client.tree = tree
    yield client
    running.shutdown()
    running.server_close()


class Client:
    """Asks as a program on the VM does."""

    def __init__(self, url, resource, told):
        self.url, self.resource, self.told = url, resource, told

    def ask(self, path, method="GET", body=None, headers=None):
        """(status, text)."""
        given = {"Metadata-Flavor": "Google"} if headers is None else headers
        url = f"{self.url}/computeMetadata/v1/{path}"
        data = body.encode() if body is not None else None
        request = urllib.request.Request(url, data=data, headers=given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.headers["Metadata-Flavor"] == "Google"
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("instance/name", "mayfly-test"),
        ("instance/id", "4611686018427387904"),
        ("instance/zone", f"projects/{NUMBER}/zones/us-central1-a"),
        ("instance/machine-type", f"projects/{NUMBER}/machineTypes/a3-highgpu-8g"),
        ("instance/hostname", f"mayfly-test.us-central1-a.c.{PROJECT}.internal"),
        ("instance/attributes/startup-script", "#!/bin/sh\n"),
        ("instance/attributes/", "enable-guest-attributes\nstartup-script\n"),
        ("instance/preempted", "FALSE"),
        ("instance/maintenance-event", "NONE"),
        ("instance/network-interfaces/0/ip", "10.10.0.3"),
        ("instance/network-interfaces/0/access-configs/0/external-ip", "203.0.113.9"),
        ("instance/service-accounts/", f"default/\n{EMAIL}/\n"),
        ("instance/service-accounts/default/email", EMAIL),
        ("project/project-id", PROJECT),
        ("project/numeric-project-id", NUMBER),
    ],
)
def test_metadata_answers_as_google_when_a_value_is_read(server, path, text):
    """Google's libraries parse these forms."""
    assert server.ask(path) == (200, text)


def test_token_is_minted_for_the_instances_account_when_asked(server):
    """gsutil and the scripts authenticate with nothing else."""
    status, text = server.ask("instance/service-accounts/default/token")

    assert status == 200
    assert json.loads(text) == {
        "access_token": f"token-of-{EMAIL}",
        "expires_in": 3599,
        "token_type": "Bearer",
    }
    assert server.ask("instance/service-accounts/default/identity?audience=x") == (
        200,
        f"oidc-{EMAIL}-for-x",
    )
    assert server.ask("instance/service-accounts/default/identity")[0] == 400


def test_recursive_read_gives_json_in_camel_case(server):
    """Guest agents read the whole tree so; keys of attributes are the user's."""
    whole = json.loads(server.ask("instance/?recursive=true")[1])

    assert whole["machineType"].endswith("a3-highgpu-8g")
    assert whole["attributes"]["startup-script"] == "#!/bin/sh\n"
    assert whole["networkInterfaces"][0]["ip"] == "10.10.0.3"
    assert whole["serviceAccounts"]["default"]["scopes"]
    text = server.ask("instance/attributes/?recursive=true&alt=text")[1]
    assert "enable-guest-attributes TRUE\n" in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Metadata-Flavor": "Other"}, 403),
        ({"Metadata-Flavor": "Google", "X-Forwarded-For": "10.0.0.1"}, 403),
    ],
)
def test_metadata_is_refused_when_the_request_could_come_through_a_proxy(server, headers, status):
    """A page that makes the server fetch an address must not get a token."""
    assert server.ask("instance/name", headers=headers)[0] == status


@pytest.mark.parametrize(
    "path", ["instance/nope", "nope", "instance/attributes/nope", "instance/name/more"]
)
def test_metadata_says_404_when_there_is_no_such_value(server, path):
    """Scripts tell "not set" from "cannot ask" by it."""
    assert server.ask(path)[0] == 404


def test_guest_attribute_is_published_read_and_deleted(server):
    """The watchdog's whole way out."""
    path = "instance/guest-attributes/mayfly/phase"

    assert server.ask(path)[0] == 404
    assert server.ask(path, "PUT", "serving")[0] == 200
    assert server.ask(path) == (200, "serving")
    assert server.ask(path, "DELETE")[0] == 200
    assert server.told == [("mayfly/phase", "serving"), ("mayfly/phase", None)]


def test_guest_attribute_is_refused_when_the_instance_does_not_allow_them(server):
    """Without the metadata key the readiness command would wait for ever."""
    server.resource["metadata"]["items"] = []

    status, _ = server.ask("instance/guest-attributes/mayfly/phase", "PUT", "serving")

    assert (status, server.told) == (403, [])


@pytest.mark.parametrize("path", ["instance/attributes/x", "instance/guest-attributes/x"])
def test_metadata_cannot_be_written_elsewhere(server, path):
    """The rest belongs to whoever made the instance."""
    assert server.ask(path, "PUT", "x")[0] == 405


def test_wait_for_change_answers_when_the_value_changes(server):
    """So a script learns of its preemption."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.ask, "instance/preempted?wait_for_change=true&timeout_sec=20")
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        server.tree.preempted = True

        assert waiting.result(10) == (200, "TRUE")
