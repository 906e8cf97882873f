"""What the reaper finds: VMs, states, locks, an engine. Built here once for all its tests."""

import hashlib
import io
import json
import tarfile
import time
from typing import Any

from tests.reaper.google import PROJECT, Google, stamp

ZONE = "us-east5-a"
BUCKET = "proj-mayfly-state"
ZONE_URL = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{ZONE}"
SETTINGS = {
    "layer": "session",
    "session": "dev",
    "profile": "kimi-k2.5",
    "started_by": "ann@example.com",
    "machine": "a3-highgpu-8g",
    "provisioning": "spot",
    "hourly_usd": 36.0,
    "rate_source": "a catalogue",
    "rate_date": "2026-06-01",
    "idle_s": 1200,
    "start_s": 1800,
    "failed_s": 300,
    "heartbeat_s": 300,
    "max_life_s": 14400,
}


def utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def instance(
    number: str,
    session: str = "dev",
    *,
    age_s: float = 3600,
    status: str = "RUNNING",
    settings: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """Compute's resource of a session's VM, `age_s` old."""
    told = {**SETTINGS, "session": session} if settings is None else settings
    text = told if isinstance(told, str) else json.dumps(told)
    return {
        "id": number,
        "name": f"mayfly-{session}",
        "status": status,
        "creationTimestamp": stamp(time.time() - age_s),
        "zone": ZONE_URL,
        "selfLink": f"{ZONE_URL}/instances/mayfly-{session}",
        "machineType": f"{ZONE_URL}/machineTypes/a3-highgpu-8g",
        "labels": {"mayfly": "session", "mayfly-session": session},
        "metadata": {"items": [{"key": "mayfly-settings", "value": text}]},
        "scheduling": {"provisioningModel": "SPOT", "maxRunDuration": {"seconds": "14400"}},
        **more,
    }


def serving(idle_s: float = 0, **more: str) -> dict[str, str]:
    """Guest attributes of a VM that serves and was last active `idle_s` ago."""
    now = time.time()
    return {
        "phase": "serving",
        "heartbeat": utc(now),
        "active_at": utc(now - idle_s),
        "timeline": json.dumps([{"stage": "driver", "start": None, "end": None, "ok": True}]),
        **more,
    }


def add_vm(
    google: Google, number: str, session: str = "dev", guest: Any = None, **more: Any
) -> dict[str, Any]:
    """A VM with the insert that made it, and what it says of itself."""
    made = instance(number, session, **more)
    google.instances[number] = made
    google.operation("insert", made, time.time() - more.get("age_s", 3600), "ann@example.com")
    if guest is not None:
        google.guests[number] = guest
    return made


def resource(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:s::mayfly::{kind}::{name}", "type": kind, "custom": True, **more}


def vm_resource(number: str, session: str = "dev") -> dict[str, Any]:
    """An Instance as the provider leaves it in the state."""
    metadata = {"mayfly-settings": json.dumps({**SETTINGS, "session": session})}
    known = {"name": f"mayfly-{session}", "zone": ZONE}
    return resource(
        "gcp:compute/instance:Instance",
        "vm",
        inputs={**known, "metadata": metadata},
        outputs={**known, "instanceId": number},
    )


def checkpoint(*resources: dict[str, Any], pending: tuple[dict[str, Any], ...] = ()) -> bytes:
    """A state object with the engine's own entries around these resources."""
    around = [
        resource("pulumi:pulumi:Stack", "stack", custom=False),
        resource("pulumi:providers:gcp", "default"),
        resource("mayfly:components:GpuNode", "node", custom=False),
        resource("pulumi:pulumi:StackReference", "foundation", external=True),
    ]
    latest: dict[str, Any] = {"resources": [*around, *resources]}
    if pending:
        latest["pending_operations"] = [{"resource": r, "type": "creating"} for r in pending]
    return json.dumps({"version": 3, "checkpoint": {"stack": "s", "latest": latest}}).encode()


def readiness() -> dict[str, Any]:
    return resource("command:local:Command", "wait")


def add_stack(google: Google, stack: str, *resources: dict[str, Any]) -> None:
    google.put(BUCKET, f".pulumi/stacks/mayfly/{stack}.json", checkpoint(*resources))


def add_lock(
    google: Google, stack: str, *, age_s: float, pid: int = 77, host: str = "laptop"
) -> str:
    """A state lock as the engine writes it; returns the object's name."""
    name = f".pulumi/locks/organization/mayfly/{stack}/0b9c.json"
    body = {"pid": pid, "username": "ann", "hostname": host, "timestamp": utc(time.time() - age_s)}
    google.put(BUCKET, name, body).updated = time.time() - age_s
    return name


# In place of the engine: it keeps what it was told, then does as told by FAKE_PULUMI.
# PATH holds nothing but itself, so only the shell's own words are used.
SCRIPT = """#!/bin/sh
{
  printf 'argv %s\\n' "$@"
  printf 'cwd %s\\n' "$PWD"
  printf 'files'; for f in * .[!.]*; do [ -e "$f" ] && printf ' %s' "$f"; done; echo
  export -p
} >"$FAKE_PULUMI_RECORD.$$"
case "$FAKE_PULUMI:$*" in
  fail:*) echo "error: update failed"; exit 255 ;;
  fail-*:*--stack=organization/mayfly/"${FAKE_PULUMI#fail-}") echo "error: just me"; exit 255 ;;
  locked:*) echo "error: the stack is currently locked by 1 lock(s)."; exit 1 ;;
  hang:*) exec /bin/sleep 60 ;;
  stubborn:*) trap '' INT; while :; do /bin/sleep 0.1; done ;;
esac
"""


def tar_gz(members: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


def add_engine(google: Google) -> dict[str, Any]:
    """An engine whose CLI is SCRIPT; returns the manifest."""
    archives = {
        "pulumi-v3-linux-x64.tar.gz": {"pulumi/pulumi": SCRIPT, "pulumi/pulumi-language-x": "no"},
        "gcp.tar.gz": {"README.md": "no", "pulumi-resource-gcp": "#!/bin/sh\n"},
        "command.tar.gz": {"./pulumi-resource-command": "#!/bin/sh\n"},
    }
    entries = []
    for name, members in archives.items():
        data = tar_gz(members)
        google.put(BUCKET, f"engine/{name}", data)
        sha256 = hashlib.sha256(data).hexdigest()
        entries.append({"version": "1.0.0", "archive": name, "sha256": sha256})
    manifest = {
        "format": 1,
        "pulumi": entries[0],
        "plugins": [{"name": "gcp", **entries[1]}, {"name": "command", **entries[2]}],
    }
    google.put(BUCKET, "engine/manifest.json", manifest)
    return manifest
