"""Bring a session up with the real engine: `python -m tests.reaper.launch SESSION [DELETE]`.

The program is inline, so that no language host is needed. DELETE is what the stack's command runs
when it is destroyed.
"""

import json
import sys

import pulumi
import pulumi_command as command
import pulumi_gcp as gcp
from pulumi import automation as auto

from tests.reaper.world import SETTINGS, ZONE

IMAGE = "projects/debian-cloud/global/images/family/debian-12"


def program(session: str, delete: str | None) -> None:
    """An Instance and a command, as a session stack owns them."""
    vm = gcp.compute.Instance(
        "vm",
        name=f"mayfly-{session}",
        zone=ZONE,
        machine_type="a3-highgpu-8g",
        boot_disk={"initialize_params": {"image": IMAGE}},
        network_interfaces=[{"network": "default"}],
        labels={"mayfly": "session", "mayfly-session": session},
        metadata={
            "mayfly-settings": json.dumps({**SETTINGS, "session": session, "idle_s": 1}),
            "enable-guest-attributes": "TRUE",
        },
        scheduling={
            "provisioning_model": "SPOT",
            "preemptible": True,
            "automatic_restart": False,
            "on_host_maintenance": "TERMINATE",
            "instance_termination_action": "DELETE",
            "max_run_duration": {"seconds": 14400},
        },
    )
    command.local.Command("wait", create="true", delete=delete, triggers=[vm.instance_id])
    pulumi.export("vm_id", vm.instance_id)


def main(session: str, delete: str | None = None) -> None:
    stack = auto.create_or_select_stack(
        f"organization/mayfly/{session}",
        project_name="mayfly",
        program=lambda: program(session, delete),
        opts=auto.LocalWorkspaceOptions(secrets_provider="passphrase"),
    )
    stack.up(on_output=print, color="never")


if __name__ == "__main__":
    main(*sys.argv[1:])
