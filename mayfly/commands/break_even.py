"""`mayfly cost --break-even`: from how much use on an own session is cheaper than an API."""

import json
import math
from dataclasses import dataclass
from typing import Any

from mayfly import break_even, pricing, profile
from mayfly.break_even import Api
from mayfly.commands.plan import chosen, one
from mayfly.errors import RefusedError, WrongInputError
from mayfly.fit import FitError
from mayfly.machines import GPU_MACHINES, MACHINES
from mayfly.measured import Measured, find
from mayfly.problems import NOTHING_DONE

NOTHING_COMPARED = "Nothing was compared."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" leaves a choice to the profile. usd_in, usd_out: of the API."""

    profile: str
    machine: str
    zone: str
    provisioning: str
    usd_in: float
    usd_out: float


def run(wanted: Wanted, *, as_json: bool, as_csv: bool, month: str) -> None:
    """Print each measured load with its price beside the API's. No cloud is asked.

    RefusedError where nobody has measured this layout, or no source prices it there.
    """
    if as_csv or month:
        raise WrongInputError(
            f"--break-even takes no {'--csv' if as_csv else '--month'}: it reads no ledger.",
            NOTHING_COMPARED,
            "Try: mayfly cost --break-even",
        )
    api = api_of(wanted)
    loaded = profile.load(wanted.profile)
    machine = chosen("machine", wanted.machine or loaded.default_machine or GPU_MACHINES[0])
    zone = one("zone", wanted.zone or machine.zones[0], machine.zones)
    provisioning = one("provisioning", wanted.provisioning, machine.provisioning)
    row = measured(loaded, machine.name)
    rate = pricing.lookup(machine.name, zone, provisioning)
    if rate is None:
        raise RefusedError(
            f"No source prices {machine.name} as {provisioning} in {zone}.",
            NOTHING_COMPARED,
            f"Try: mayfly plan {loaded.name} --machine {machine.name}   (the places it knows)",
        )
    told = facts(row, rate, api) | {"profile": loaded.name, "machine": machine.name, "zone": zone}
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        show(told, row, rate, api)


def api_of(wanted: Wanted) -> Api:
    for name, usd in (("--api-in", wanted.usd_in), ("--api-out", wanted.usd_out)):
        if not math.isfinite(usd) or usd < 0 or (name == "--api-out" and usd == 0):
            raise WrongInputError(f"{name} {usd:g}: dollars for a million tokens.", NOTHING_DONE)
    return Api(usd_in=wanted.usd_in, usd_out=wanted.usd_out)


def measured(loaded: profile.Profile, machine: str) -> Measured:
    """The speed in mode fast, in which tokens are cheapest. RefusedError where there is none."""
    try:
        choice = loaded.choose(machine, "fast")
    except FitError as error:
        raise RefusedError(
            f"{loaded.name} does not fit {machine}: {error}.",
            NOTHING_COMPARED,
            f"Try: mayfly plan {loaded.name} --machine {machine}",
        ) from error
    row = find(loaded.config, MACHINES[machine].gpu, choice.setup.tp, choice.setup.dcp)
    if row is None:
        raise RefusedError(
            f"Nobody has measured {loaded.name} on {MACHINES[machine].gpus} x "
            f"{MACHINES[machine].gpu}.",
            NOTHING_COMPARED,
            f"Try: mayfly cost --break-even --machine {GPU_MACHINES[0]}   (kimi-k2.5 is measured)",
        )
    return row


def facts(row: Measured, rate: pricing.Rate, api: Api) -> dict[str, Any]:
    found = break_even.points(row.tok_s_per_request, rate.usd_per_h, api)
    return {
        "usd_per_hour": rate.usd_per_h,
        "rate_source": rate.source,
        "rate_date": rate.date,
        "api_usd_per_m_in": api.usd_in,
        "api_usd_per_m_out": api.usd_out,
        "api_source": api.source,
        "basis": row.basis,
        "points": [break_even.as_dict(point) for point in found],
    }


def show(told: dict[str, Any], row: Measured, rate: pricing.Rate, api: Api) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table("at a time", "tokens/s", "$/M here", "API $/h", "break-even")
    for point in break_even.points(row.tok_s_per_request, rate.usd_per_h, api):
        table.add_row(
            str(point.requests),
            f"{point.tok_s:,.0f}",
            f"{point.usd_per_m:.2f}",
            f"{point.api_usd_per_h:.2f}",
            break_even.sentence(point),
        )
    console.print(
        Text(
            f"{told['profile']} on {told['machine']} in {told['zone']}: {rate.usd_per_h:.2f} USD/h "
            f"({rate.source}, {rate.date}), against ${api.usd_in:g} in, ${api.usd_out:g} out for a "
            f"million tokens ({api.source})."
        )
    )
    console.print(table)
    console.print(Text(f"Speeds: {row.basis}. Prompts are taken as free here."))
