"""What ends and what stays. Pure: everything it knows is in its arguments."""

from dataclasses import replace

from mayfly import idle
from reaper.stack import Stack
from reaper.vm import Vm

# Three ticks: time for a bucket that cannot be read to answer again.
LEASE_GRACE_S = 900
EVEN_UNSEEN = ("gone", "deadline")


def judge(vm: Vm, now: float) -> idle.Verdict:
    """The verdict on one VM: its own, by `mayfly.idle`, softened where the look failed.

    Unread guest attributes leave only what Compute says and the deadline. Unread leases may hide
    one: every other limit is then 15 minutes longer. A VM's stack has no say in this.
    """
    limits = vm.limits
    if not vm.lease_known:
        limits = replace(
            limits,
            idle_s=limits.idle_s + LEASE_GRACE_S,
            failed_s=limits.failed_s + LEASE_GRACE_S,
            heartbeat_s=limits.heartbeat_s + LEASE_GRACE_S,
        )
    seen = idle.parse_observation(vm.status, vm.created_at, vm.attributes, vm.lease_until, now)
    found = idle.verdict(seen, limits, now)
    if vm.attributes_error and found.kind not in EVEN_UNSEEN:
        deadline = vm.created_at + limits.max_life_s
        return idle.Verdict(False, "unknown", f"not seen: {vm.attributes_error}", deadline)
    return found


def leave_stack(stack: Stack, foundation_stack: str) -> str:
    """Why a stack is not the reaper's to destroy; "" when it may be, once its VM is gone."""
    if stack.name == foundation_stack:
        return "it is the foundation"
    if stack.protected:
        return f"it protects {stack.protected[0]}"
    if stack.foreign:
        return f"it holds {stack.foreign[0]}"
    if not stack.leftovers:
        return "it is empty"
    return ""
