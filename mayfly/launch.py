"""One session's launch: the stack's configuration, `pulumi up`, and a VM outside the state."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mayfly import idle, names, vms
from mayfly.capacity import Verdict
from mayfly.engine import Engine
from mayfly.errors import FailedError
from mayfly.ladder.lives import Grant, Life
from mayfly.ladder.rungs import Rung
from mayfly.ladder.walk import Found
from mayfly.launch_words import rung_keys, told_keys, vm_errors
from mayfly.lookout import LOOK_EVERY_S, TAKEN, Lookout

DESTROYS = 3
PARENT, RESOURCE = "mayfly:components:GpuNode", "node-vm"
"""The component that a session's VM belongs to, and the VM's name, in the program."""


class StoppedError(FailedError):
    """The user stopped it: nobody tries again."""


@dataclass(frozen=True, kw_only=True)
class Launch(Lookout):
    """The hands of `mayfly.ladder.climb` for one session.

    keys: what the stack is configured with beside what a rung says.
    grant: what the session may use in all. lives: what its VMs have used of it so far.
    go_on: what to do after Ctrl-C; "" = the command again, which takes up what is there.
    """

    engine: Engine
    keys: Mapping[str, str]
    grant: Grant
    lives: list[Life] = field(default_factory=list)
    go_on: str = ""

    def joined(self) -> bool:
        """Leave no VM of this session in the walk's way; True where one lives already, and serves.

        FailedError where one lives and does not.
        """
        if self.session not in self.engine.stacks():
            self.engine.create(self.session)
        kept_id = self.in_state()
        kept = self.current() if kept_id else None
        for vm in self.all():
            if vm.id != kept_id and self._settled(vm, free=not kept_id):
                kept_id, kept = vm.id, vm
        if not kept_id:
            return False
        if kept is None or kept.status in idle.GONE:
            self.tell(f"{self.vm_name} has ended; what is left of it is taken away")
            self.end()
            return False
        self.tell(f"{kept.name} is in {kept.zone} already; waiting until it serves")
        status, _ = self.engine.up(self.session, self.tell)
        if status:
            raise self._does_not_serve(kept.zone)
        return True

    def _settled(self, vm: vms.Vm, *, free: bool) -> bool:
        """True for a VM of an earlier launch that the state holds now; else it is gone.

        free: whether the state has room for it.
        """
        asked = all(
            vm.settings.get(key) == self.keys.get(f"mayfly:{key}") for key in ("profile", "mode")
        )
        if free and asked and self._take_in(vm):
            self.engine.set_config(self.session, {**self.keys, **told_keys(vm)})
            return True
        self._take_away(vm)
        return False

    def end(self) -> None:
        """Destroy what the stack holds. A VM that goes by itself meanwhile makes Pulumi stumble."""
        words = ("destroy", "--yes", "--refresh", "--skip-preview", "--stack", self.session)
        for left in reversed(range(DESTROYS)):
            try:
                return self.engine.run(*words)
            except FailedError:
                if not left:
                    raise
            time.sleep(LOOK_EVERY_S)

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
        began = time.time()
        hours = self.grant.hours_for(rung, self.lives, began)
        if not hours:
            return Verdict("next_zone", (), "too little of its time or money is left for it", True)
        self.engine.set_config(self.session, {**self.keys, **rung_keys(rung, hours)})
        before = self.inserts(rung.place)
        status, said = self.engine.up(self.session, self.tell)
        if status == 0:
            return None
        made = self.in_state()
        if made:
            return self._made_but(rung, made, began)
        refused = vm_errors(said)
        if not refused:
            raise FailedError(
                "`pulumi up` failed before it asked for a VM.",
                "Pulumi's own words are above; no VM was made.",
                f"Try: what they say, then: {self.command} --session {self.session}",
            )
        return self.classified(rung.place, before, refused)

    def in_state(self) -> str:
        """The numeric id of the VM in the stack's state; "" without one."""
        outputs = self._kept()
        return str(outputs.get("instanceId") or "?") if outputs is not None else ""

    def current(self) -> vms.Vm | None:
        """The VM that the state holds, as Compute has it now; None where it is gone."""
        outputs = self._kept() or {}
        zone, number = outputs.get("zone"), outputs.get("instanceId")
        found = self.cloud.compute.instance(str(zone), str(number)) if zone and number else None
        return vms.parse(found) if found is not None else None

    def _kept(self) -> Mapping[str, Any] | None:
        """What the state says of its VM."""
        for resource in self.engine.resources(self.session):
            if resource.get("type") == names.INSTANCE_TYPE:
                found: Mapping[str, Any] = resource.get("outputs") or {}
                return found
        return None

    def _made_but(self, rung: Rung, vm_id: str, began: float) -> Verdict:
        """The VM was made, and `up` failed all the same: preempted, or it does not serve."""
        told = self.operations(f"targetId={vm_id}") or []
        if not any(op.get("operationType") in TAKEN for op in told):
            raise self._does_not_serve(rung.place.zone)
        made = [op for op in told if op.get("operationType") == "insert" and op.get("endTime")]
        self.lives.append(
            Life(
                place=rung.place,
                began_at=vms.seconds(str(made[0]["endTime"])) if made else began,
                usd_per_h=rung.rate.usd_per_h,
                egress_usd=rung.egress_usd,
                ended_at=time.time(),
            )
        )
        self.end()
        return Verdict("next_zone", (), "preempted before it served")

    def take_up(self, rung: Rung) -> Found:
        """This launch's VM, which the state does not hold: into the state, else away for sure."""
        instance = self.cloud.compute.instance(rung.place.zone, self.vm_name)
        if instance is not None:
            vm = vms.parse(instance)
            if self._take_in(vm):
                return "adopted"
            self._take_away(vm)
        self._forget_the_cut_off()
        return "cleared"

    def _take_in(self, vm: vms.Vm) -> bool:
        """Adopt a VM of ours into the state; False where that cannot be."""
        if vm.status in idle.GONE or not self.is_ours(vm):
            return False
        self._forget_the_cut_off()
        parents = [r["urn"] for r in self.engine.resources(self.session) if r["type"] == PARENT]
        if len(parents) != 1:
            return False
        self.tell(f"{vm.name} in {vm.zone} is outside the state; it is taken in")
        there = f"projects/{self.cloud.project}/zones/{vm.zone}/instances/{vm.name}"
        kind = names.INSTANCE_TYPE
        wanted = {"type": kind, "name": RESOURCE, "id": there, "parent": parents[0]}
        return self.engine.adopt(self.session, wanted) and self.in_state() == vm.id

    def _take_away(self, vm: vms.Vm) -> None:
        """End a VM of ours, in the state (it may be half taken in) or not."""
        if self.in_state() == vm.id:
            self.end()
        else:
            self.delete(vm)

    def _forget_the_cut_off(self) -> None:
        """A create that ended in the middle is in the state until somebody has looked."""
        if self.engine.cut_off(self.session):
            self.engine.run(
                *("refresh", "--yes", "--skip-preview", "--clear-pending-creates"),
                *("--stack", self.session),
            )

    def interrupted(self, rung: Rung | None) -> FailedError:
        """After Ctrl-C: what is there; a VM that the state does not hold is taken away first."""
        again = f"{self.command} --session {self.session}"
        go_on = f"Try: {self.go_on or f'{again}, or, to end it: mayfly down {self.session}'}"
        try:
            if rung is None:
                return StoppedError("Interrupted.", self.left(), go_on)
            if not self.in_state():
                self._leave_nothing(rung)
            return StoppedError("Interrupted.", self.there(rung.place.zone), go_on)
        except (FailedError, KeyboardInterrupt) as error:
            self.tell(str(error) or "interrupted again")
        where = f" in {rung.place.zone}, at {rung.rate.usd_per_h:.2f} USD/h" if rung else ""
        return StoppedError(
            "Interrupted, and what is there is not known.",
            f"{self.vm_name} may run{where}; it ends by its own rule, and at its deadline.",
            "Try: mayfly status",
        )

    def _leave_nothing(self, rung: Rung) -> None:
        """Take away a VM that an interrupted `up` may have made, and what it left in the state."""
        if self.look(rung) == "ours":
            instance = self.cloud.compute.instance(rung.place.zone, self.vm_name)
            if instance is not None:
                self.delete(vms.parse(instance))
        self._forget_the_cut_off()
