"""Every name that two rooms must agree on: stacks, VMs, buckets, objects, labels.

Standard library only; the reaper's archive carries this file.
"""

import hashlib
import re

PROJECT = "mayfly"
"""The Pulumi project; a stack's full name is `organization/mayfly/<stack>`."""

FOUNDATION, SEED, SESSION = LAYERS = ("foundation", "seed", "session")

LABEL_LAYER = "mayfly"
LABEL_SESSION = "mayfly-session"
LABEL_PROFILE = "mayfly-profile"
LABEL_PROVISIONING = "mayfly-provisioning"

VM_PREFIX = "mayfly-"
VM_TAG = "mayfly-vm"
"""The network tag that the IAP rule targets; every VM of ours carries it."""

REAPER = "mayfly-reaper"
"""The reaper's function, its job, and its service account up to the @."""

SSH_RULE = "mayfly-iap-ssh"
"""The firewall's rule for tunnels, the only way in."""

API_KEY_SECRET = "mayfly-api-key"

GUEST_PATH = "mayfly/"
"""The guest attributes' namespace, as Compute's query wants it."""

SETTINGS_KEY = "mayfly-settings"
"""The metadata key under which a VM is told what it is for."""

OUR_VMS = f"labels.{LABEL_LAYER}:*"
"""The filter under which Compute lists every VM of ours."""

INSTANCE_TYPE = "gcp:compute/instance:Instance"
"""A VM's type in a stack's state."""

PROVISIONING = {"spot": "SPOT", "flex-start": "FLEX_START", "on-demand": "STANDARD"}
"""Our word for a provisioning model -> Compute's."""

PROJECT_VARIABLES = (
    "GOOGLE_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
    "GCLOUD_PROJECT",
    "CLOUDSDK_CORE_PROJECT",
)
"""Where the Google provider looks for the project, in its order."""

SESSION_PATTERN = re.compile(r"[a-z]([a-z0-9-]{0,39}[a-z0-9])?")
SESSION_RULE = "a letter, then letters, digits and hyphens, lower case, 41 at most, no hyphen last"


def is_session(name: str) -> bool:
    """True for a name that can be a stack and, behind `mayfly-`, a VM."""
    return SESSION_PATTERN.fullmatch(name) is not None


def slug(text: str) -> str:
    """`text` as a label value: `[a-z0-9_-]`, 63 at most. "Kimi K2.5" -> "kimi-k2-5"."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:63].rstrip("-")


def vm(session: str) -> str:
    return f"{VM_PREFIX}{session}"


def session_of(vm_name: str) -> str | None:
    """The session behind a VM's name; None for a VM that is not ours."""
    session = vm_name.removeprefix(VM_PREFIX)
    return session if session != vm_name and is_session(session) else None


def full_stack(stack: str) -> str:
    return f"organization/{PROJECT}/{stack}"


def bucket(project: str, kind: str) -> str:
    """`kind`: weights, cache, source (foundation's) or state (made before it, by hand)."""
    return f"{project}-mayfly-{kind}"


def model_prefix(model: str, revision: str) -> str:
    """Where a model's files lie in the weights bucket, without a slash at the end."""
    return f"models/{model.replace('/', '--')}/{revision}"


def engine_prefix(engine_id: str) -> str:
    return f"engines/{engine_id}"


def engine_id(vllm: str, lock: bytes) -> str:
    """`vllm-<version>-<hash of the lock>`: another lock is another environment."""
    return f"vllm-{vllm}-{hashlib.sha256(lock).hexdigest()[:12]}"


def driver_prefix(branch: str) -> str:
    return f"drivers/{branch}"


def probe_log(instance_id: str) -> str:
    """In the cache bucket: the engine's log of a probe, with its figures."""
    return f"probes/{instance_id}/engine.log"


MANIFEST = "manifest.json"
"""The last object written under a prefix: its presence means that the rest is complete."""

# In the state bucket, beside Pulumi's own `.pulumi/`.
ENGINE_PREFIX = "engine/"
ENGINE_MANIFEST = "engine/manifest.json"
LEASE_PREFIX = "leases/"
LEDGER_PREFIX = "ledger/"
OBSERVATION_PREFIX = "observations/"
REAPER_LEASE = "reaper/lease.json"


def lease(session: str) -> str:
    return f"{LEASE_PREFIX}{session}"


def watch(session: str) -> str:
    """Says that somebody brings this session up again when Google takes its VM.

    Among the leases, which members may read; no session has a dot in its name.
    """
    return f"{LEASE_PREFIX}{session}.watch"


def ledger(instance_id: str) -> str:
    return f"{LEDGER_PREFIX}{instance_id}.json"


def observation(instance_id: str) -> str:
    return f"{OBSERVATION_PREFIX}{instance_id}.json"


def stack_state(stack: str) -> str:
    """The object that holds a stack's state in a gs:// or file:// backend."""
    return f".pulumi/stacks/{PROJECT}/{stack}.json"


def stack_locks(stack: str) -> str:
    """The prefix of a stack's lock objects in a gs:// or file:// backend."""
    return f".pulumi/locks/organization/{PROJECT}/{stack}/"


def stack_history(stack: str) -> str:
    """The prefix of a stack's finished updates in a gs:// or file:// backend."""
    return f".pulumi/history/{PROJECT}/{stack}/"
