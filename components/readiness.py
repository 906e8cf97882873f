"""`pulumi up` returns when the VM does what it was made for, or says why it will not."""

import math
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from mayfly.settings import VmSettings

WAIT = ".venv/bin/python -m mayfly.readiness"
"""Runs from the project's folder. No delete command: the reaper destroys without this machine."""


@dataclass(frozen=True, kw_only=True)
class ReadinessArgs:
    """phase: "serving", "seeded" or "probed". start_s: seconds from now until the wait is given up.

    vm_id: the numeric id; a VM made anew is waited for anew.
    """

    vm: VmSettings
    vm_id: pulumi.Input[str]
    phase: str
    start_s: float


class Readiness(pulumi.ComponentResource):
    """Waits for a phase that the VM itself announces; its progress is shown while `up` runs."""

    phase: pulumi.Output[str]

    def __init__(
        self, name: str, args: ReadinessArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mayfly:components:Readiness", name, None, opts)
        wait = command.local.Command(
            f"{name}-wait",
            create=WAIT,
            triggers=[args.vm_id],
            environment={
                "MAYFLY_PROJECT": args.vm.project,
                "MAYFLY_ZONE": args.vm.zone,
                "MAYFLY_VM": args.vm.vm_name,
                "MAYFLY_VM_ID": args.vm_id,
                "MAYFLY_READY_PHASE": args.phase,
                "MAYFLY_START_S": str(math.ceil(args.start_s)),
            },
            logging=command.local.Logging.STDERR,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.phase = wait.stdout
        self.register_outputs({"phase": self.phase})
