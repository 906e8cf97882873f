"""The stand-in gcloud: into a real machine, with the API answered by a few stored resources."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from local.machine import Image, Machines
from tests.machine.conftest import NUMBER, PROJECT, instance
from tests.machine.vllm_server import ROOT, free_port

ZONE = "us-central1-a"
PLACE = ["--zone", ZONE, "--project", PROJECT]
SCRIPT = """#!/bin/sh
cd /tmp
echo hello >answer
python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &
python3 -m http.server --bind 10.10.0.2 9000 >/dev/null 2>&1 &
sleep 1
echo servers-up
wait
"""


@pytest.fixture
def cloud(tmp_path):
    """A running VM behind a tiny API; `resources` may be changed."""
    vm = instance(SCRIPT, status="RUNNING", tags={"items": ["mayfly"]})
    rule = {
        "network": "global/networks/mayfly",
        "sourceRanges": ["35.235.240.0/20"],
        "targetTags": ["mayfly"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["22", "9000"]}],
    }
    resources = {
        f"projects/{PROJECT}/zones/{ZONE}/instances/mayfly-test": vm,
        f"projects/{PROJECT}/global/firewalls": {"items": [rule]},
    }
    image = Image(project_id=PROJECT, project_number=NUMBER)
    machines = Machines(tmp_path / "machines", image, {})
    machines.boot(vm)
    server = serve(resources)
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "local.json").write_text(json.dumps({"urls": {"api": url}, "exports": {}}))
    try:
        machines.wait_for_serial(vm["id"], "servers-up", 20)
        yield Cloud(tmp_path, resources, machines, vm, rule)
    finally:
        server.shutdown()
        server.server_close()
        machines.close()


class Cloud:
    def __init__(self, directory, resources, machines, vm, rule):
        self.directory, self.resources = directory, resources
        self.machines, self.vm, self.rule = machines, vm, rule

    def command(self, *words):
        return [sys.executable, "-m", "local.machine.gcloud", *words]

    @property
    def environment(self):
        return {**os.environ, "PYTHONPATH": str(ROOT), "MAYFLY_LOCAL_DIR": str(self.directory)}

    def run(self, *words):
        """(status, stderr) of a call that ends by itself."""
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=30
        )
        return done.returncode, done.stderr

    @contextlib.contextmanager
    def running(self, *words):
        with subprocess.Popen(self.command(*words), env=self.environment) as process:
            try:
                yield process
            finally:
                process.kill()


def serve(resources):
    """GET /compute/v1/<path> -> the stored resource, else 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = resources.get(self.path.removeprefix("/compute/v1/"))
            body = json.dumps(found or {"error": {"message": "not found"}}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def fetch(port):
    """What the machine's server says through a local port."""
    for _ in range(100):
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
        assert process.wait(10) == 255


def test_ssh_ends_when_the_machine_is_gone(cloud):
    """`mayfly connect` must notice a preempted session."""
    port = free_port()

    with cloud.running(*ssh("-N", "-L", f"{port}:localhost:8000")) as process:
        assert fetch(port) == "hello"
        cloud.machines.destroy(cloud.vm["id"])
        assert process.wait(20) == 255


def test_iap_reaches_only_what_listens_on_the_machines_own_address(cloud):
    """So a server bound to loopback is safe from a tunnel without SSH."""
    port = free_port()
    words = ["compute", "start-iap-tunnel", "mayfly-test"]

    status, said = cloud.run(*words, "8000", f"--local-host-port=localhost:{port}", *PLACE)
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
    assert text in found[1]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["compute", "ssh", "x", "--frob", *PLACE], 2, "unrecognized arguments: --frob"),
        (["compute", "frob"], 2, "Invalid choice"),
        (["projects", "list"], 2, "Invalid choice"),
        (["compute", "ssh", "mayfly-test", "--project", "p", "--", "-N"], 1, "[--zone] flag"),
        (ssh("-N", "-o", "Frob=1"), 255, "Bad configuration option"),
        (ssh("-L", "1:localhost:2"), 255, "-N is missing"),
        (ssh("-N", "-L", "nonsense"), 255, "Bad local forwarding specification"),
    ],
)
def test_gcloud_refuses_what_it_does_not_know(cloud, words, status, text):
    """A flag that only works here would fail for every user."""
    found = cloud.run(*words)

    assert found[0] == status
    assert text in found[1]


def test_ssh_gives_up_when_the_local_port_is_taken(cloud):
    """As with ExitOnForwardFailure, which the product asks for."""
    begun = time.monotonic()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), None) as taken:
        status, said = cloud.run(*ssh("-N", "-L", f"{taken.server_port}:localhost:8000"))

    assert status == 255
    assert "Address already in use" in said
    assert time.monotonic() - begun < 20
