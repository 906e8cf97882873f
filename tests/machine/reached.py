"""A machine with an SSH server behind a tiny API, and the stand-in gcloud beside it."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from local.machine import Image, Machines
from local.machine.openssh import OpenSsh
from local.tools_found import openssh_root
from tests.machine.conftest import NUMBER, PROJECT, instance
from tests.machine.vllm_server import ROOT

ZONE = "us-central1-a"
PLACE = ["--zone", ZONE, "--project", PROJECT]
LABELS = {"mayfly": "session", "mayfly-session": "test"}
RIGHTS = (
    "iap.tunnelInstances.accessViaIAP",
    "compute.instances.osLogin",
    "compute.instances.osAdminLogin",
)


class Cloud:
    """A running VM. `resources`, `rule` and `rights` (of the caller) may be changed."""

    def __init__(self, directory, resources, machines, vm, rule, rights):
        self.directory, self.resources, self.rights = directory, resources, rights
        self.machines, self.vm, self.rule = machines, vm, rule

    def command(self, *words):
        return [sys.executable, "-m", "local.machine.gcloud", *words]

    @property
    def environment(self):
        return {**os.environ, "PYTHONPATH": str(ROOT), "MAYFLY_LOCAL_DIR": str(self.directory)}

    def run(self, *words, stdin=""):
        """(status, stdout, stderr) of a call that ends by itself."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            input=stdin,
        )
        return done.returncode, done.stdout, done.stderr

    @contextlib.contextmanager
    def running(self, *words):
        """A call that stays; it and its ssh are gone afterwards."""
        with subprocess.Popen(
            self.command(*words), env=self.environment, start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def booted(directory: Path, script: str, said: str) -> Iterator[Cloud]:
    """A machine whose console has said that."""
    vm = instance(script, status="RUNNING", tags={"items": ["mayfly"]})
    vm["metadata"]["items"].append({"key": "enable-oslogin", "value": "TRUE"})
    rule = {
        "network": "global/networks/mayfly",
        "sourceRanges": ["35.235.240.0/20"],
        "targetTags": ["mayfly"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["22", "9000"]}],
    }
    vm |= {"labels": LABELS, "creationTimestamp": "2026-11-01T00:00:00Z"}
    resources = {
        f"projects/{PROJECT}/zones/{ZONE}/instances/mayfly-test": vm,
        f"projects/{PROJECT}/aggregated/instances": {"items": {ZONE: {"instances": [vm]}}},
        f"projects/{PROJECT}/global/firewalls": {"items": [rule]},
    }
    rights = list(RIGHTS)
    root = openssh_root()
    assert root is not None, "make engine"
    image = Image(project_id=PROJECT, project_number=NUMBER, ssh=OpenSsh(root))
    # gIB's LD_LIBRARY_PATH reaches every unit, the SSH server's too.
    machines = Machines(directory / "machines", image, {"gib": "true"})
    machines.boot(vm)
    server = serve(resources, rights)
    url = f"http://127.0.0.1:{server.server_port}"
    (directory / "local.json").write_text(json.dumps({"urls": {"api": url}, "exports": {}}))
    try:
        machines.wait_for_serial(vm["id"], said, 60)
        yield Cloud(directory, resources, machines, vm, rule, rights)
    finally:
        server.shutdown()
        server.server_close()
        machines.close()


def serve(resources, rights):
    """GET /compute/v1/<path> -> the stored resource, else 404; POST: the rights that are held."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = resources.get(self.path.removeprefix("/compute/v1/").partition("?")[0])
            self.answer(200 if found else 404, found or {"error": {"message": "not found"}})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["permissions"]
            self.answer(200, {"permissions": [p for p in asked if p in rights]})

        def answer(self, status, found):
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
