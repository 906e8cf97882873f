"""mayfly's VMs, as Compute and their own claims describe them."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mayfly import idle, names
from mayfly.cloud import Blob, Cloud, CloudError
from mayfly.errors import FailedError, WrongInputError

COMPUTE_IS_OFF = "accessNotConfigured"
FORBIDDEN = 403


@dataclass(frozen=True, kw_only=True)
class Vm:
    """One VM. Times are Unix seconds. settings: its mayfly-settings, {} if they cannot be read."""

    name: str
    id: str
    zone: str
    status: str
    layer: str
    session: str
    created_at: float
    stopped_at: float | None
    provisioning: str
    settings: Mapping[str, Any]

    @property
    def hourly_usd(self) -> float | None:
        """The rate written at launch; None when it is not known."""
        rate = self.settings.get("hourly_usd")
        return float(rate) if isinstance(rate, int | float) else None

    def age_s(self, now: float) -> float:
        """Seconds that it has run, up to now or to its stop."""
        return max(0.0, (self.stopped_at or now) - self.created_at)

    def cost_usd(self, now: float) -> float | None:
        """What it has cost so far, by the rate written at launch."""
        rate = self.hourly_usd
        return None if rate is None else rate * self.age_s(now) / 3600

    def limits(self) -> idle.Limits | None:
        """The limits it lives by; None when its settings do not hold them."""
        keys = ("idle_s", "start_s", "failed_s", "heartbeat_s", "max_life_s")
        values = {key: self.settings.get(key) for key in keys}
        if not all(isinstance(v, int | float) for v in values.values()):
            return None
        return idle.Limits(**{key: float(str(value)) for key, value in values.items()})


def parse(instance: Mapping[str, Any]) -> Vm:
    """Compute's answer as a Vm."""
    labels = instance.get("labels", {})
    name = str(instance["name"])
    stopped = instance.get("lastStopTimestamp")
    running = instance.get("status") not in idle.GONE
    return Vm(
        name=name,
        id=str(instance["id"]),
        zone=str(instance["zone"]).rsplit("/", 1)[-1],
        status=str(instance.get("status", "")),
        layer=str(labels.get(names.LABEL_LAYER, "")),
        session=str(labels.get(names.LABEL_SESSION) or names.session_of(name) or name),
        created_at=seconds(str(instance["creationTimestamp"])),
        stopped_at=seconds(str(stopped)) if stopped and not running else None,
        provisioning=str(labels.get(names.LABEL_PROVISIONING, "")),
        settings=settings_of(instance),
    )


def known_limits(vm: Vm) -> idle.Limits:
    """What the VM lives by. FailedError when its settings do not say."""
    found = vm.limits()
    if found is None:
        raise FailedError(
            f"The settings of {vm.name} cannot be read: mayfly cannot say when it ends.",
            "It runs and costs money; the reaper holds it to the defaults.",
            f"Try: mayfly down {vm.session}",
        )
    return found


def seconds(timestamp: str) -> float:
    """Unix seconds of one of Google's RFC 3339 timestamps."""
    return datetime.fromisoformat(timestamp).timestamp()


def settings_of(instance: Mapping[str, Any]) -> dict[str, Any]:
    """The mayfly-settings metadata; {} when it is missing or not a JSON object."""
    for item in instance.get("metadata", {}).get("items", []):
        if item.get("key") == names.SETTINGS_KEY:
            try:
                found = json.loads(item.get("value", ""))
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def all_of_ours(cloud: Cloud) -> list[Vm]:
    """Every VM that carries our label, sorted by session."""
    try:
        found = [parse(i) for i in cloud.compute.instances(names.OUR_VMS)]
    except CloudError as error:
        if error.reason != COMPUTE_IS_OFF:
            raise
        return []  # a project that never had a foundation: no VM can be there
    return sorted(found, key=lambda vm: (vm.layer, vm.session))


def sessions(cloud: Cloud) -> list[Vm]:
    """The VMs that serve."""
    return [vm for vm in all_of_ours(cloud) if vm.layer == names.SESSION]


def pick(vms: Iterable[Vm], session: str, project: str) -> Vm:
    """The VM of one session; without a name, the only one there is. Raises WrongInputError."""
    found = {vm.session: vm for vm in vms}
    if session in found:
        return found[session]
    if not session and len(found) == 1:
        return next(iter(found.values()))
    there = ", ".join(sorted(found)) or "none"
    raise WrongInputError(
        f"No session {session!r} in {project}." if session else "Which session?",
        f"Sessions there: {there}. Nothing was attempted.",
        "Try: mayfly status" if found else "Try: pulumi up --stack dev",
    )


def check_session_name(session: str) -> None:
    """Raises WrongInputError for what can be no session's name."""
    if not names.is_session(session):
        raise WrongInputError(
            f"{session!r} cannot be a session: {names.SESSION_RULE}.",
            "Nothing was attempted.",
            "Try: mayfly status",
        )


def claims(cloud: Cloud, vm: Vm) -> dict[str, str] | None:
    """What the VM says of itself; None before it has said anything."""
    return cloud.compute.guest_attributes(vm.zone, vm.name, names.GUEST_PATH)


@dataclass(frozen=True)
class Look:
    """What the watchdog says of its last look: who was at work last, what it cannot see."""

    active: str
    unknown: str


def parse_look(claim: str) -> Look:
    """The claim `look`, harmless to a terminal; empty where it is malformed."""
    try:
        raw = json.loads(claim)
        texts = [raw[key] if isinstance(raw[key], str) else "" for key in ("active", "unknown")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Look("", "")
    return Look(printable(texts[0]), printable(texts[1]))


def lease(cloud: Cloud, vm: Vm) -> idle.Lease | None:
    """The lease that holds this VM or held it; None when there is none that can be read."""
    bucket = vm.settings.get("state_bucket")
    blob = lease_object(cloud, str(bucket), names.lease(vm.session)) if bucket else None
    found = idle.parse_lease(blob.data) if blob is not None else None
    return found if found is not None and found.holds(vm.id) else None


def lease_object(cloud: Cloud, bucket: str, name: str) -> Blob | None:
    """A lease or a watch as it lies there; None when there is none.

    Without the right to list, which members lack, Cloud Storage answers 403 for what is not there.
    """
    try:
        return cloud.storage.get(bucket, name)
    except CloudError as error:
        if error.status != FORBIDDEN or error.denied:
            raise
        return None


def look(cloud: Cloud, vm: Vm) -> tuple[idle.Observation, dict[str, str]]:
    """One look at a VM, as the rule wants it, and the raw claims."""
    said = claims(cloud, vm)
    now = time.time()
    held = lease(cloud, vm)
    until = held.until if held is not None else None
    observed = idle.parse_observation(vm.status, vm.created_at, said, until, now)
    return observed, said or {}


def printable(text: str, limit: int = 300) -> str:
    """A claim as it may be shown: one line, no control characters that a terminal would obey."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(clean.split())[:limit]
