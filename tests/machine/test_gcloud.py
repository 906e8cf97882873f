"""The stand-in gcloud: into a real machine, with the API answered by a few stored resources."""

import contextlib
import http.server
import signal
import threading
import time
import urllib.request

import pytest

from local.children import free_port
from tests.machine.conftest import PROJECT
from tests.machine.reached import PLACE, ZONE, booted

SCRIPT = """#!/bin/bash
cd /tmp
echo hello >answer
python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &
python3 -m http.server --bind 10.10.0.2 9000 >/dev/null 2>&1 &
until (: </dev/tcp/127.0.0.1/8000 && : </dev/tcp/10.10.0.2/9000) 2>/dev/null; do sleep 0.1; done
echo servers-up
wait
"""


@pytest.fixture
def cloud(tmp_path):
    with booted(tmp_path, SCRIPT, "servers-up") as found:
        yield found


def fetch(port):
    """What the machine's server says through a local port."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{port}/answer", timeout=5) as answer:
                return answer.read().decode().strip()
        threading.Event().wait(0.1)
    raise AssertionError(f"nothing answers on {port}")


def ssh(*forward):
    return [
        "compute",
        "ssh",
        "mayfly-test",
        *PLACE,
        "--tunnel-through-iap",
        "--quiet",
        "--",
        *forward,
    ]


def test_ssh_forwards_a_loopback_port_of_the_machine(cloud):
    """It is the product's only way to the endpoint."""
    port = free_port()

    with cloud.running(*ssh("-N", "-L", f"{port}:localhost:8000")) as process:
        assert fetch(port) == "hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0


def test_ssh_ends_when_the_machine_is_gone(cloud):
    """`mayfly connect` must notice a preempted session."""
    port = free_port()

    with cloud.running(*ssh("-N", "-L", f"{port}:localhost:8000")) as process:
        assert fetch(port) == "hello"
        cloud.machines.destroy(cloud.vm["id"])
        assert process.wait(60) == 255


def test_iap_reaches_only_what_listens_on_the_machines_own_address(cloud):
    """So a server bound to loopback is safe from a tunnel without SSH."""
    port = free_port()
    words = ["compute", "start-iap-tunnel", "mayfly-test"]

    status, _, said = cloud.run(*words, "8000", f"--local-host-port=localhost:{port}", *PLACE)
    assert status == 1
    assert "4003: 'failed to connect to backend'" in said

    open_words = [*words, "9000", f"--local-host-port=localhost:{port}", *PLACE]
    with cloud.running(*open_words):
        assert fetch(port) == "hello"


def remove_vm(cloud):
    cloud.resources.pop(f"projects/{PROJECT}/zones/{ZONE}/instances/mayfly-test")


def stop_vm(cloud):
    cloud.vm["status"] = "TERMINATED"


def close_firewall(cloud):
    cloud.rule["allowed"] = [{"IPProtocol": "tcp", "ports": ["443"]}]


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (remove_vm, 1, "was not found"),
        (stop_vm, 255, "4047: 'Failed to lookup instance'"),
        (close_firewall, 255, "4003: 'failed to connect to backend'"),
    ],
)
def test_ssh_fails_as_gcloud_does_when_the_vm_cannot_be_reached(cloud, change, status, text):
    """A missing firewall rule or a dead VM must not look like a working tunnel."""
    change(cloud)

    found = cloud.run(*ssh("-N", "-L", f"{free_port()}:localhost:8000"))

    assert found[0] == status
    assert text in found[2]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["compute", "ssh", "x", "--frob", *PLACE], 2, "unrecognized arguments: --frob"),
        (["compute", "frob"], 2, "Invalid choice"),
        (["projects", "list"], 2, "Invalid choice"),
        (["compute", "ssh", "mayfly-test", "--project", "p", "--", "-N"], 1, "[--zone] flag"),
        (ssh("-N", "-o", "Frob=1"), 255, "Bad configuration option"),
        (["compute", "scp", "a", "b", *PLACE], 1, "Source(s) must be remote"),
        (["compute", "scp", "a", *PLACE], 2, "Must be specified"),
        (["compute", "ssh", "x", "--command"], 2, "expected one argument"),
        (ssh("-N", "-L", "nonsense"), 255, "Bad local forwarding specification"),
    ],
)
def test_gcloud_refuses_what_it_does_not_know(cloud, words, status, text):
    """A flag that only works here would fail for every user."""
    found = cloud.run(*words)

    assert found[0] == status
    assert text in found[2]


def test_ssh_gives_up_when_the_local_port_is_taken(cloud):
    """As with ExitOnForwardFailure, which the product asks for."""
    begun = time.monotonic()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), None) as taken:
        forward = ("-N", "-L", f"127.0.0.1:{taken.server_port}:localhost:8000")
        status, _, said = cloud.run(*ssh(*forward, "-o", "ExitOnForwardFailure=yes"))

    assert status == 255
    assert "Address already in use" in said
    assert time.monotonic() - begun < 20
