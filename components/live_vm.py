"""The guard before an `up` over a running VM: none is lost to a config edit, none serves another
model than its outputs say."""

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_gcp as gcp

from mayfly import names
from mayfly.idle import GONE
from mayfly.settings import VmSettings


def guard(settings: VmSettings, told: Mapping[str, str]) -> bool:
    """Whether this stack has a VM that stays as it is.

    RunError if this `up` would replace a VM that lives, unless `allowReplace` is set.

    Also, in any case, if only what the VM is told at its birth would change (`told`): new metadata
    does not make it load another model, and the outputs would lie. And if a session's VM has
    halted: nothing would change, and `up` would report an endpoint that is off.
    Looks where the last update put the VM, not where the configuration would put it now.
    """
    zone = _last_zone(settings)
    vm = _find(settings, zone) if zone else None
    if zone is None or vm is None:
        return False
    changes = _changes(settings, zone, vm)
    if changes and not settings.allow_replace:
        raise pulumi.RunError(
            f"This would replace {settings.vm_name}, which is there and billed: "
            f"{'; '.join(changes)}.\n"
            "Nothing was changed; the VM runs on as it is.\n"
            f"Try: pulumi destroy --stack {settings.session}, or, to replace it, "
            f"pulumi config set mayfly:allowReplace true --stack {settings.session}"
        )
    if not changes and settings.layer == names.SESSION and vm.current_status in GONE:
        raise pulumi.RunError(
            f"{settings.vm_name} has ended ({vm.current_status}) and serves nothing.\n"
            "Nothing was changed; only its disk is billed, until the reaper removes it.\n"
            f"Try: pulumi destroy --stack {settings.session}, then pulumi up again"
        )
    others = [] if changes else _told_otherwise(vm, told)
    if others:
        raise pulumi.RunError(
            f"{settings.vm_name} is there and billed, and was made for another: "
            f"{'; '.join(others)}.\n"
            "Nothing was changed; the VM runs on as it is.\n"
            f"Try: pulumi destroy --stack {settings.session}, then pulumi up again"
        )
    return not changes


def _last_zone(settings: VmSettings) -> str | None:
    """The zone of the Instance in this stack's state; None if there is none."""
    stack = names.full_stack(settings.session)
    answer = pulumi.runtime.invoke(
        "pulumi:pulumi:readStackResourceOutputs", {"stackName": stack}
    ).value
    resources = (answer or {}).get("outputs") or {}
    for resource in resources.values():
        if resource.get("type") == names.INSTANCE_TYPE:
            zone = (resource.get("outputs") or {}).get("zone")
            return str(zone) if zone else None
    return None


def _find(settings: VmSettings, zone: str) -> gcp.compute.GetInstanceResult | None:
    """The VM as Compute has it now; None if it is gone."""
    try:
        return gcp.compute.get_instance(name=settings.vm_name, zone=zone, project=settings.project)
    except Exception as error:
        # The SDK raises a bare Exception here: the text is all there is to go by.
        if "was not found" in str(error):
            return None
        raise


def _changes(settings: VmSettings, zone: str, vm: gcp.compute.GetInstanceResult) -> list[str]:
    """ "key: old -> new" for each configured value that only a new VM can take."""
    scheduling: Any = vm.schedulings[0] if vm.schedulings else None
    seconds = scheduling.max_run_durations[0].seconds if scheduling.max_run_durations else 0
    pairs = (
        ("mayfly:zone", zone, settings.zone),
        ("mayfly:machine", vm.machine_type.rpartition("/")[2], settings.machine),
        (
            "mayfly:provisioning",
            scheduling.provisioning_model,
            names.PROVISIONING[settings.provisioning],
        ),
        ("life in seconds", int(seconds), settings.limits.max_life_s),
    )
    return [f"{key}: {old} -> {new}" for key, old, new in pairs if old != new]


def _told_otherwise(vm: gcp.compute.GetInstanceResult, told: Mapping[str, str]) -> list[str]:
    """ "key: old -> new" for what the VM's own settings say otherwise; [] if they are not read."""
    try:
        written = json.loads((vm.metadata or {}).get(names.SETTINGS_KEY, "{}"))
    except ValueError:
        return []
    return [
        f"mayfly:{key}: {written[key]} -> {new}"
        for key, new in told.items()
        if isinstance(written, dict) and written.get(key, new) != new
    ]
