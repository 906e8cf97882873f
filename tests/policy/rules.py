"""Rules that every resource of the three layers keeps, whatever the configuration.

Each takes one resource and returns what is wrong with it, or None. They read what the engine was
sent, not how the components are written: a rule holds for the next component too.
"""

import re
from collections.abc import Callable
from typing import Any

from components.private_network import IAP_RANGE
from tests.components.mocks import Made

Rule = Callable[[Made], str | None]

LABEL = re.compile(r"[a-z0-9_-]{1,63}")
LABELLED = ("Instance", "Bucket", "Secret", "Function")
PRIMITIVE = ("roles/owner", "roles/editor", "roles/viewer")
ADMIN = re.compile(r"roles/.*[aA]dmin$")
EVERYBODY = ("allUsers", "allAuthenticatedUsers")
WEEK_S = 604_800


def spot_ends_in_deletion(made: Made) -> str | None:
    """Without an action the plan flaps; with STOP the disk is billed for ever."""
    scheduling = _scheduling(made)
    if scheduling and scheduling.get("instanceTerminationAction") != "DELETE":
        return "no instanceTerminationAction DELETE"
    return None


def every_vm_has_a_deadline(made: Made) -> str | None:
    """The floor under watchdog and reaper."""
    if made.kind != "Instance":
        return None
    seconds = (_scheduling(made) or {}).get("maxRunDuration", {}).get("seconds", 0)
    return None if 30 <= seconds <= 120 * 86_400 else f"maxRunDuration {seconds}"


def no_vm_restarts_by_itself(made: Made) -> str | None:
    """A restarted VM is billed and nobody waits for it."""
    if made.kind == "Instance" and (_scheduling(made) or {}).get("automaticRestart") is not False:
        return "automaticRestart is on"
    return None


def no_desired_status(made: Made) -> str | None:
    """A refresh would start again what the watchdog has powered off."""
    return "desiredStatus is set" if "desiredStatus" in made.inputs else None


def no_gpu_node_on_the_internet(made: Made) -> str | None:
    """It serves private data through a tunnel; what it needs are Google's APIs."""
    if made.kind != "Instance" or not made.inputs["machineType"].startswith("a"):
        return None
    for interface in made.inputs["networkInterfaces"]:
        if interface.get("accessConfigs"):
            return "a GPU node with an external address"
    return None


def nobody_comes_in_but_by_iap(made: Made) -> str | None:
    """One open port would make the endpoint's key the only lock."""
    if made.kind != "Firewall" or made.inputs.get("direction") == "EGRESS":
        return None
    if made.inputs.get("sourceRanges") != [IAP_RANGE] or made.inputs.get("sourceTags"):
        return f"ingress from {made.inputs.get('sourceRanges')}"
    if made.inputs.get("allows") != [{"protocol": "tcp", "ports": ["22"]}]:
        return f"ingress to {made.inputs.get('allows')}"
    return None if made.inputs.get("targetTags") else "ingress to every machine"


def buckets_are_private(made: Made) -> str | None:
    """Weights may be licensed, caches are code, sources run."""
    if made.kind != "Bucket":
        return None
    if made.inputs.get("publicAccessPrevention") != "enforced":
        return "public access is not prevented"
    return None if made.inputs.get("uniformBucketLevelAccess") else "access by object"


def weights_outlive_mistakes(made: Made) -> str | None:
    """`pulumi destroy` in the wrong terminal."""
    if made.kind != "Bucket" or not made.inputs["name"].endswith("-weights"):
        return None
    kept_s = made.inputs.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)
    if made.inputs.get("forceDestroy") or not made.protect:
        return "the weights can be destroyed"
    return None if kept_s >= WEEK_S else "deleted weights cannot be brought back"


def no_broad_role(made: Made) -> str | None:
    """Least privilege begins with no role that means "everything"."""
    role = made.inputs.get("role", "")
    return f"role {role}" if role in PRIMITIVE or ADMIN.fullmatch(role) else None


def no_public_member(made: Made) -> str | None:
    """A key is no use beside a binding that lets everybody in."""
    member = made.inputs.get("member", "")
    return f"member {member}" if member in EVERYBODY else None


def bindings_add_and_never_replace(made: Made) -> str | None:
    """A policy or a binding of ours would throw out everybody else's."""
    return made.kind if re.search(r"I[aA][mM](Policy|Binding)$", made.kind) else None


def labels_are_slugs(made: Made) -> str | None:
    """Google refuses the resource for one capital; the reaper finds nothing without them."""
    if made.kind not in LABELLED:
        return None
    labels = made.inputs.get("labels") or {}
    bad = [
        f"{k}={v}" for k, v in labels.items() if not LABEL.fullmatch(k) or not LABEL.fullmatch(v)
    ]
    if bad:
        return f"labels {bad}"
    return None if "mayfly" in labels else "no label says whose it is"


def guest_attributes_are_on(made: Made) -> str | None:
    """The VM's voice: without it every session is ended as silent."""
    if made.kind != "Instance":
        return None
    metadata = made.inputs["metadata"]
    on = [metadata.get(key) for key in ("enable-guest-attributes", "enable-oslogin")]
    return None if on == ["TRUE", "TRUE"] else "guest attributes or OS Login are off"


def boot_is_measured(made: Made) -> str | None:
    """Secure Boot is off for the driver's sake; vTPM and integrity monitoring are not."""
    shield = made.inputs.get("shieldedInstanceConfig", {})
    if made.kind != "Instance" or (
        shield.get("enableVtpm") and shield.get("enableIntegrityMonitoring")
    ):
        return None
    return "no vTPM or no integrity monitoring"


def no_vm_runs_as_the_default_account(made: Made) -> str | None:
    """The default account is an editor of the project."""
    if made.kind != "Instance":
        return None
    email = made.inputs.get("serviceAccount", {}).get("email", "")
    return None if email.startswith("mayfly-") else f"runs as {email!r}"


def image_changes_are_ignored(made: Made) -> str | None:
    """A family's next image would replace a live VM."""
    if made.kind != "Instance" or "bootDisk.initializeParams.image" in made.ignored:
        return None
    return "a new image would replace it"


def commands_leave_no_trace_to_clean(made: Made) -> str | None:
    """The reaper destroys from a machine that has none of this one's programs."""
    return "a delete command" if made.kind == "Command" and "delete" in made.inputs else None


def functions_are_private(made: Made) -> str | None:
    """It deletes machines; it is nobody's business to call it."""
    if made.kind != "Function":
        return None
    ingress = made.inputs["serviceConfig"].get("ingressSettings")
    return None if ingress == "ALLOW_INTERNAL_ONLY" else f"ingress {ingress}"


def _scheduling(made: Made) -> dict[str, Any] | None:
    return made.inputs.get("scheduling") if made.kind == "Instance" else None


RULES: tuple[Rule, ...] = (
    spot_ends_in_deletion,
    every_vm_has_a_deadline,
    no_vm_restarts_by_itself,
    no_desired_status,
    no_gpu_node_on_the_internet,
    nobody_comes_in_but_by_iap,
    buckets_are_private,
    weights_outlive_mistakes,
    no_broad_role,
    no_public_member,
    bindings_add_and_never_replace,
    labels_are_slugs,
    guest_attributes_are_on,
    boot_is_measured,
    no_vm_runs_as_the_default_account,
    image_changes_are_ignored,
    commands_leave_no_trace_to_clean,
    functions_are_private,
)
