"""The real engine over the stand-ins and the REST fake: a VM from nothing to gone."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.serving import make_server

from local.exports import endpoints
from local.rest.app import create_app
from local.rest.machines import NoMachines
from local.rest.world import World
from tests.provider.engine import Stack, stack_in

PROGRAM = """
import pulumi, pulumi_command as command, pulumi_gcp as gcp

label = pulumi.Config().get("label") or "a"
net = gcp.compute.Network("net", name="mayfly", auto_create_subnetworks=False)
sub = gcp.compute.Subnetwork("sub", name="mayfly-us-central1", network=net.id,
                             region="us-central1", ip_cidr_range="10.10.0.0/24")
vm = gcp.compute.Instance(
    "vm", name="mayfly-dev", zone="us-central1-a", machine_type="a3-highgpu-8g",
    boot_disk={"initialize_params": {
        "image": "projects/ubuntu-os-accelerator-images/global/images/"
                 "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20261110",
        "size": 200, "type": "hyperdisk-balanced"}},
    network_interfaces=[{"subnetwork": sub.id}],
    scheduling={"provisioning_model": "SPOT", "preemptible": True, "automatic_restart": False,
                "on_host_maintenance": "TERMINATE", "instance_termination_action": "DELETE",
                "max_run_duration": {"seconds": 3600}},
    labels={"mayfly": label}, metadata={"enable-guest-attributes": "TRUE"})
ready = command.local.Command("ready", create="echo serving", triggers=[vm.instance_id])
pulumi.export("vm_id", vm.instance_id)
pulumi.export("seconds", vm.scheduling.max_run_duration.seconds)
pulumi.export("ready", ready.stdout)
"""
VM = "/projects/proj/zones/us-central1-a/instances/mayfly-dev"


@contextmanager
def serving(world: World) -> Iterator[tuple[str, Callable[[], None]]]:
    """The REST fake behind a socket, and how to stop it early."""
    server = make_server("127.0.0.1", 0, create_app(world), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stopped: list[bool] = []

    def stop() -> None:
        if not stopped:
            stopped.append(True)
            server.shutdown()
            thread.join(timeout=60)
            server.server_close()

    try:
        yield f"http://127.0.0.1:{server.server_port}", stop
    finally:
        stop()


def vanish(api: str) -> None:
    """GCE takes the VM back, and the engine does not know."""
    request = urllib.request.Request(
        f"{api}/compute/v1{VM}", method="DELETE", headers={"Authorization": "Bearer fake"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_stack_comes_up_changes_and_goes_when_the_engine_drives_the_stand_ins(
    tmp_path: Path,
) -> None:
    """The whole life that `make demo` rests on, with every refusal that teaches an operator
    something."""
    world = World("proj", machines=NoMachines())
    with serving(world) as (api, stop):
        environment = {**endpoints(api), "GOOGLE_PROJECT": "proj"}
        stack = stack_in(tmp_path, environment)
        stack.program(PROGRAM)

        assert "+ 5 to create" in stack.run("preview")
        first = _up(stack)
        stack.up("--expect-no-changes")
        stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")

        stack.run("config", "set", "label", "b")
        changed = stack.up("--diff")
        assert "~ gcp:compute/instance:Instance: (update)" in changed
        assert stack.outputs()["vm_id"] == first["vm_id"]

        vanish(api)
        text = stack.run("destroy", "--yes", "--skip-preview", fails=True)
        assert "Error deleting instance: googleapi: Error 404" in text
        again = _up(stack, "--refresh")
        assert again["vm_id"] != first["vm_id"]
        assert again["ready"] == "serving"

        stop()
        assert "connect: connection refused" in stack.up("--refresh", fails=True)
    world.close()


def _up(stack: Stack, *words: str) -> dict[str, object]:
    stack.up(*words)
    outputs = stack.outputs()
    assert outputs["seconds"] == 3600
    return outputs
