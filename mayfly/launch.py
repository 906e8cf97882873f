"""One session's launch: the stack's configuration, `pulumi up`, and what Google says of it."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mayfly import idle, names, vms
from mayfly.capacity import Verdict, classify
from mayfly.cloud import Cloud, CloudError
from mayfly.engine import Engine
from mayfly.errors import FailedError
from mayfly.ladder.rungs import Place, Rung
from mayfly.ladder.walk import Found

CLOCKS_DIFFER_S = 120.0
"""How far this machine's clock may be from Google's."""
GONE_WITHIN_S, LOOK_EVERY_S = 300.0, 2.0
PREEMPTED = "compute.instances.preempted"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The hands of `mayfly.ladder.climb` for one session.

    keys: what the stack is configured with beside what a rung says. tell: for Pulumi's lines.
    """

    engine: Engine
    cloud: Cloud
    session: str
    state_bucket: str
    keys: Mapping[str, str]
    tell: Callable[[str], None]

    @property
    def vm_name(self) -> str:
        return names.vm(self.session)

    def joined(self) -> bool:
        """Leave no VM of this session in the walk's way; True where one lives already, and serves.

        FailedError where one lives and does not.
        """
        if self.session not in self.engine.stacks():
            self.engine.run("stack", "init", self.session)
        there, kept_id = self._all(), self.in_state()
        for vm in there:
            if vm.id != kept_id:
                self.delete(vm)
        kept = next((vm for vm in there if vm.id == kept_id), None)
        if kept is None:
            return False
        if kept.status in idle.GONE:
            self.tell(f"{kept.name} has ended ({kept.status}); what is left of it is taken away")
            self._destroy()
            return False
        self.tell(f"{kept.name} is in {kept.zone} already; waiting until it serves")
        status, _ = self.engine.up(self.session, self.tell)
        if status:
            raise self._does_not_serve(kept.zone)
        return True

    def _all(self) -> list[vms.Vm]:
        return [vm for vm in vms.all_of_ours(self.cloud) if vm.session == self.session]

    def _destroy(self) -> None:
        self.engine.run("destroy", "--yes", "--refresh", "--skip-preview", "--stack", self.session)

    def _does_not_serve(self, zone: str) -> FailedError:
        return FailedError(
            f"{self.vm_name} is in {zone}, and does not serve.",
            f"Why is above. {self.there(zone)}",
            f"Try: mayfly logs {self.session}; then mayfly down {self.session}",
        )

    def bring_up(self, rung: Rung) -> Verdict | None:
        """Configure the stack for a rung and bring it up; None when it serves.

        FailedError where the VM was made and does not serve, or the program refused.
        """
        self.engine.set_config(self.session, {**self.keys, **rung_keys(rung)})
        began = time.time()
        status, said = self.engine.up(self.session, self.tell)
        if status == 0:
            return None
        made = self.in_state()
        if made:
            return self._made_but(rung.place, made, said)
        refused = vm_errors(said)
        if not refused:
            raise FailedError(
                "`pulumi up` failed before it asked for a VM.",
                "Pulumi's own words are above; no VM was made.",
                f"Try: what they say, then: mayfly up --session {self.session}",
            )
        return self._classified(rung.place, began, refused)

    def in_state(self) -> str:
        """The numeric id of the VM in the stack's state; "" without one."""
        for resource in self.engine.resources(self.session):
            if resource.get("type") == names.INSTANCE_TYPE:
                return str((resource.get("outputs") or {}).get("instanceId") or "?")
        return ""

    def _made_but(self, place: Place, vm_id: str, said: str) -> Verdict:
        """The VM was made, and `up` failed all the same: preempted, or it does not serve."""
        taken = self._operations(f"targetId={vm_id}")
        if any(op.get("operationType") == PREEMPTED for op in taken):
            self._destroy()
            return Verdict("next_zone", (), "preempted before it served")
        raise self._does_not_serve(place.zone)

    def _classified(self, place: Place, began: float, said: str) -> Verdict:
        """By the zone operation, which alone holds code and zones; else by Pulumi's text."""
        by_text = classify(said)
        error = self._operation_error(place, began)
        if error is None:
            return by_text
        verdict = classify({"error": error})
        zones = verdict.zones or (by_text.zones if verdict.action == "next_zone" else ())
        return Verdict(verdict.action, zones, verdict.reason, verdict.lasting)

    def _operation_error(self, place: Place, began: float) -> Mapping[str, Any] | None:
        """The newest failed insert of this VM in this zone since then; None if there is none, or
        Google does not say now: Pulumi's text must do."""
        target = f"targetLink eq .*/zones/{place.zone}/instances/{self.vm_name}"
        inserts = [
            op
            for op in self._operations(target)
            if op.get("operationType") == "insert"
            and op.get("error")
            and vms.seconds(str(op["insertTime"])) > began - CLOCKS_DIFFER_S
        ]
        newest = max(inserts, key=lambda op: vms.seconds(str(op["insertTime"])), default=None)
        return newest["error"] if newest else None

    def _operations(self, filter: str) -> list[dict[str, Any]]:
        try:
            return list(self.cloud.compute.operations(filter))
        except CloudError as error:
            self.tell(f"the operation cannot be read, going by Pulumi's words: {error.message}")
            return []

    def look(self, rung: Rung) -> Found:
        """Whose VM of this name is in the rung's zone."""
        try:
            instance = self.cloud.compute.instance(rung.place.zone, self.vm_name)
        except CloudError:
            return "unknown"
        if instance is None:
            return "nothing"
        return "ours" if self.is_ours(vms.parse(instance)) else "others"

    def is_ours(self, vm: vms.Vm) -> bool:
        """Whether this stack made it: by its labels, and by the state bucket it was told."""
        return (
            vm.layer == names.SESSION
            and vm.session == self.session
            and vm.settings.get("session") == self.session
            and vm.settings.get("state_bucket") == self.state_bucket
        )

    def clear(self, rung: Rung) -> None:
        """Delete this launch's VM, which the state does not hold, and wait until it is gone."""
        zone = rung.place.zone
        instance = self.cloud.compute.instance(zone, self.vm_name)
        if instance is not None:
            self.delete(vms.parse(instance))
        if self.engine.cut_off(self.session):
            self.engine.run(
                *("refresh", "--yes", "--skip-preview", "--clear-pending-creates"),
                *("--stack", self.session),
            )

    def delete(self, vm: vms.Vm) -> None:
        """Delete one VM of ours, by its number: another under its name is safe."""
        if not self.is_ours(vm):
            raise FailedError(f"{vm.name} in {vm.zone} is not this stack's.", "It was left alone.")
        self.tell(f"{vm.name} in {vm.zone} is outside the state; it is taken away")
        self.cloud.compute.delete_instance(vm.zone, vm.id)
        until = time.monotonic() + GONE_WITHIN_S
        while self.cloud.compute.instance(vm.zone, vm.id) is not None:
            if time.monotonic() > until:
                raise FailedError(
                    f"{vm.name} in {vm.zone} does not go: still there after {GONE_WITHIN_S:.0f} s.",
                    "It is billed as long as it is there; the reaper and its own deadline end it.",
                    "Try: mayfly status",
                )
            time.sleep(LOOK_EVERY_S)

    def there(self, zone: str) -> str:
        """What is in a zone now and what it costs, in a sentence or two."""
        try:
            instance = self.cloud.compute.instance(zone, self.vm_name)
        except CloudError:
            return f"Google does not say whether {self.vm_name} is in {zone}: mayfly status."
        return billed(vms.parse(instance)) if instance else "No VM is there; nothing is billed."

    def interrupted(self, rung: Rung | None) -> FailedError:
        """After Ctrl-C: what is there; a VM that the state does not hold is taken away first."""
        go_on = (
            f"Try: mayfly up --session {self.session}, or, to end it: mayfly down {self.session}"
        )
        try:
            if rung is None:
                left = [billed(vm) for vm in self._all()]
                told = " ".join(left) or "No VM is there; nothing is billed."
                return FailedError("Interrupted.", told, go_on)
            if not self.in_state() and self.look(rung) == "ours":
                self.clear(rung)
        except (FailedError, KeyboardInterrupt) as error:
            self.tell(str(error) or "interrupted again")
        zone = rung.place.zone if rung else ""
        return FailedError("Interrupted.", self.there(zone), go_on)


def billed(vm: vms.Vm) -> str:
    """Where a VM is and what it costs, in a sentence."""
    rate = "an unknown rate" if vm.hourly_usd is None else f"{vm.hourly_usd:.2f} USD/h"
    limits = vm.limits()
    ends = f", and ends after {limits.max_life_s / 3600:.1f} h at the latest" if limits else ""
    return f"{vm.name} ({vm.id}) is in {vm.zone}, {vm.status}, at {rate}{ends}."


def rung_keys(rung: Rung) -> dict[str, str]:
    """The stack's keys that say where, as what, and at what price; written once, at launch."""
    return {
        "mayfly:machine": rung.place.machine,
        "mayfly:zone": rung.place.zone,
        "mayfly:provisioning": rung.place.provisioning,
        "mayfly:hourlyUsd": f"{rung.rate.usd_per_h:g}",
        "mayfly:rateSource": rung.rate.source,
        "mayfly:rateDate": rung.rate.date,
        "mayfly:maxRunSeconds": f"{rung.hours * 3600:.0f}",
    }


def vm_errors(said: str) -> str:
    """What Pulumi's diagnostics say of the VM; "" where they say nothing of it.

    Only these: the rest of the output holds words ("forbidden", "timed out") of other things.
    """
    _, _, diagnostics = said.partition("Diagnostics:")
    blocks = re.split(r"^  (?=\S)", diagnostics, flags=re.M)
    ours = [b for b in blocks if b.startswith("gcp:compute:Instance") and "error:" in b]
    return "\n".join(ours)
