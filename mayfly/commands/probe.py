"""`mayfly probe`: one rank of a profile on the GPU at hand or a rented one, beside the plan."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import probe, profile, vms
from mayfly.errors import FailedError, RefusedError, WrongInputError
from mayfly.fit import FitError
from mayfly.machines import GPU_MACHINES
from mayfly.modes import MODES
from mayfly.probe_case import BATCHES, Plan
from mayfly.problems import one_of


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" leaves a choice to the profile.

    cloud: on a rented VM; only then session, zone and yes count, and python and limit_s do not.
    """

    profile: str
    machine: str
    mode: str
    batches: str
    python: str
    out: str
    limit_s: float
    cloud: bool
    session: str
    zone: str
    yes: bool


def run(wanted: Wanted, *, as_json: bool) -> None:
    """Measure and print; FailedError if the engine did not start or ran out of time, or where what
    was rented is not gone."""
    plan = parse(wanted)
    try:
        found = measured(wanted, plan)
    except FitError as error:
        raise RefusedError(
            f"{plan.profile.name} does not fit {plan.machine}: {error}.",
            probe.NOTHING_STARTED,
            f"Try: mayfly plan {plan.profile.name}",
        ) from None
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    if found["exit"] != 0:
        raise FailedError(
            f"The engine ended with {found['exit']}: {last_line(found['measured']['error'])}",
            "What was measured before that is shown above.",
            f"Its log: {wanted.out}",
        )
    if found.get("left"):
        raise FailedError(
            "The rank was measured, and its stack is still there.",
            found["left"],
            f"Try: mayfly down {wanted.session}",
        )


def measured(wanted: Wanted, plan: Plan) -> dict[str, Any]:
    """Here, or on a VM of its own."""
    out = Path(wanted.out)
    if not wanted.cloud:
        python = wanted.python or sys.executable
        ask = probe.Ask(plan=plan, limit_s=wanted.limit_s, python=python, out=out)
        return probe.probe(ask)
    from mayfly.commands import probe_cloud

    if plan.batches != BATCHES:
        raise WrongInputError(
            f"--batches {wanted.batches}: with --cloud it is {','.join(map(str, BATCHES))}.",
            probe.NOTHING_STARTED,
        )
    vms.check_session_name(wanted.session)
    asked = probe_cloud.Asked(
        plan=plan, session=wanted.session, zone=wanted.zone, out=out, yes=wanted.yes
    )
    return probe_cloud.run(asked)


def parse(wanted: Wanted) -> Plan:
    """Whose rank. WrongInputError, ConfigError for a wrong word."""
    loaded = profile.load(wanted.profile)
    machine = wanted.machine or loaded.default_machine
    for what, value, valid in (
        ("machine", machine, GPU_MACHINES),
        ("mode", wanted.mode, MODES),
    ):
        if value not in valid:
            raise WrongInputError(f"--{what}: {value!r}. {one_of(valid)}", probe.NOTHING_STARTED)
    words = wanted.batches.split(",")
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise WrongInputError(
            f"--batches: {wanted.batches!r}. It must be numbers above 0, a comma between them.",
            probe.NOTHING_STARTED,
        )
    batches = tuple(int(word) for word in words)
    return Plan(profile=loaded, machine=machine, mode=wanted.mode, batches=batches)


def show(found: dict[str, Any]) -> None:
    """The figures for people, the plan's beside them."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"Rank {found['rank']} of {found['profile']} ({found['machine']}, mode {found['mode']}), "
        f"on {found['gpu']} ({found['gpu_gib']:.2f} GiB) with vLLM {found['engine']}"
    )
    console.print(f"Left out: {found['leaves_out']}.")
    table = Table("", "planned", "measured", "difference")
    for name, planned in found["predicted"].items():
        difference = found["difference_percent"].get(name)
        told = "" if difference is None else f"{difference:+.1f} %"
        table.add_row(name, f"{planned:,}", said(found["measured"].get(name)), told)
    for name in ("ready_s", "compile_s", "graphs_s"):
        table.add_row(name, "", said(found["measured"].get(name)), "")
    for name, value in found["measured"].items():
        if name.startswith("decode"):
            rates = f"{value['per_request_tok_s']:g} tok/s each, {value['total_tok_s']:g} in all"
            table.add_row(name, "", rates, "")
        elif name.startswith("prefill"):
            table.add_row(name, "", f"{value['tok_s']:g} tok/s", "")
    console.print(table)


def said(figure: object) -> str:
    return "not said" if figure is None else f"{figure:,}"


def last_line(text: str) -> str:
    """The last line that holds anything, 300 characters at most."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[:300]
