"""What one launch says: to the stack's file, to people, and what Pulumi says of its VM."""

import re

from mayfly import vms
from mayfly.ladder.rungs import Rung


def billed(vm: vms.Vm) -> str:
    """Where a VM is and what it costs, in a sentence."""
    rate = "an unknown rate" if vm.hourly_usd is None else f"{vm.hourly_usd:.2f} USD/h"
    limits = vm.limits()
    ends = f", and ends after {limits.max_life_s / 3600:.1f} h at the latest" if limits else ""
    return f"{vm.name} ({vm.id}) is in {vm.zone}, {vm.status}, at {rate}{ends}."


def rung_keys(rung: Rung, hours: float) -> dict[str, str]:
    """The stack's keys that say where, as what, at what price and for how long; written once."""
    return {
        "mayfly:machine": rung.place.machine,
        "mayfly:zone": rung.place.zone,
        "mayfly:provisioning": rung.place.provisioning,
        "mayfly:hourlyUsd": f"{rung.rate.usd_per_h:g}",
        "mayfly:rateSource": rung.rate.source,
        "mayfly:rateDate": rung.rate.date,
        "mayfly:maxRunSeconds": f"{int(hours * 3600)}",
    }


def told_keys(vm: vms.Vm) -> dict[str, str]:
    """The same keys as a VM that is there was told them."""
    told = vm.settings
    return {
        "mayfly:machine": str(told.get("machine")),
        "mayfly:zone": vm.zone,
        "mayfly:provisioning": str(told.get("provisioning")),
        "mayfly:hourlyUsd": f"{told.get('hourly_usd')}",
        "mayfly:rateSource": str(told.get("rate_source")),
        "mayfly:rateDate": str(told.get("rate_date")),
        "mayfly:maxRunSeconds": f"{told.get('max_life_s')}",
    }


def vm_errors(said: str) -> str:
    """What Pulumi's diagnostics say of the VM; "" where they say nothing of it.

    Only these: the rest of the output holds words ("forbidden", "timed out") of other things.
    """
    _, _, diagnostics = said.partition("Diagnostics:")
    blocks = re.split(r"^  (?=\S)", diagnostics, flags=re.M)
    ours = [b for b in blocks if b.startswith("gcp:compute:Instance") and "error:" in b]
    return "\n".join(ours)
