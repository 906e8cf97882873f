"""What Google says of one session's VMs: whose they are, why one was refused, how one ended."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from mayfly import idle, names, vms
from mayfly.capacity import Verdict, classify
from mayfly.cloud import Cloud, CloudError
from mayfly.errors import FailedError
from mayfly.ladder.lives import Sight
from mayfly.ladder.rungs import Place, Rung
from mayfly.ladder.walk import Found
from mayfly.launch_words import billed

GONE_WITHIN_S, LOOK_EVERY_S = 300.0, 2.0
TAKEN = {"compute.instances.preempted", "compute.instances.hostError"}
"""Ends of a VM that nobody here wanted."""


@dataclass(frozen=True, kw_only=True)
class Lookout:
    """Looks at one session's VMs; `delete` ends one, and only one of ours.

    state_bucket: what the stack's own VMs were told. tell: for lines that people read.
    command: what brings such a session up, without its name.
    """

    cloud: Cloud
    session: str
    state_bucket: str
    tell: Callable[[str], None]
    command: str = "mayfly up"

    @property
    def vm_name(self) -> str:
        return names.vm(self.session)

    def all(self) -> list[vms.Vm]:
        """Every VM that is labelled as this session's, whoever made it."""
        return [vm for vm in vms.all_of_ours(self.cloud) if vm.session == self.session]

    def is_ours(self, vm: vms.Vm) -> bool:
        """Whether this stack made it: by its labels, and by the state bucket it was told."""
        return (
            vm.layer == names.SESSION
            and vm.session == self.session
            and vm.settings.get("session") == self.session
            and vm.settings.get("state_bucket") == self.state_bucket
        )

    def look(self, rung: Rung) -> Found:
        """Whose VM of this name is in the rung's zone."""
        try:
            instance = self.cloud.compute.instance(rung.place.zone, self.vm_name)
        except CloudError:
            return "unknown"
        if instance is None:
            return "nothing"
        return "ours" if self.is_ours(vms.parse(instance)) else "others"

    def sight(self, vm: vms.Vm) -> Sight:
        """What has become of a VM that served."""
        try:
            instance = self.cloud.compute.instance(vm.zone, vm.id)
            if instance is not None and instance.get("status") not in idle.GONE:
                return "lives"
            listed = list(self.cloud.compute.operations(f"targetId={vm.id}"))
        except CloudError:
            return "unknown"
        told = {op.get("operationType") for op in listed}
        if told & TAKEN:
            return "taken"
        return "ended" if told - {"insert"} else "unknown"  # the list may lag

    def inserts(self, place: Place) -> dict[str, dict[str, Any]] | None:
        """Google's operations that made or should have made this VM there, old ones too, by name.

        None where Google does not say.
        """
        target = f"targetLink eq .*/zones/{place.zone}/instances/{self.vm_name}"
        listed = self.operations(target)
        if listed is None:
            return None
        return {str(op["name"]): op for op in listed if op.get("operationType") == "insert"}

    def classified(self, place: Place, before: Collection[str] | None, said: str) -> Verdict:
        """By the zone operation, which alone holds code and zones; else by Pulumi's text.

        before: the `inserts` of earlier attempts, whose errors say nothing of this one.
        """
        by_text = classify(said)
        listed = None if before is None else self.inserts(place)
        if before is None or listed is None:
            return by_text
        failed = [op for name, op in listed.items() if name not in before and op.get("error")]
        if not failed:
            return by_text
        newest = max(failed, key=lambda op: vms.seconds(str(op["insertTime"])))
        verdict = classify({"error": newest["error"]})
        zones = verdict.zones or (by_text.zones if verdict.action == "next_zone" else ())
        return replace(verdict, zones=zones)

    def operations(self, filter: str) -> list[dict[str, Any]] | None:
        """Zone operations; None where Google does not say, which is told."""
        try:
            return list(self.cloud.compute.operations(filter))
        except CloudError as error:
            self.tell(f"operations cannot be read, going by Pulumi's words: {error.message}")
            return None

    def delete(self, vm: vms.Vm) -> None:
        """Delete one VM of ours, by its number: another under its name is safe."""
        if not self.is_ours(vm):
            raise FailedError(
                f"{vm.name} in {vm.zone} is not this stack's.",
                "It was left alone; this launch made nothing.",
                f"Try: mayfly status, or another name: {self.command} --session {self.session}-2",
            )
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

    def left(self) -> str:
        """Which VMs of this session there are and what they cost, in a sentence each."""
        return " ".join(billed(vm) for vm in self.all()) or "No VM is there; nothing is billed."

    def there(self, zone: str) -> str:
        """What is in a zone now and what it costs, in a sentence or two."""
        try:
            instance = self.cloud.compute.instance(zone, self.vm_name)
        except CloudError:
            return f"Google does not say whether {self.vm_name} is in {zone}: mayfly status."
        return billed(vms.parse(instance)) if instance else "No VM is there; nothing is billed."
