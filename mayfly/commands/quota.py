"""`mayfly quota`: what Google grants this project, what a profile needs, and asking for more."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mayfly import profile, quota
from mayfly.cloud import Cloud, connect
from mayfly.commands.plan import chosen, one
from mayfly.errors import RefusedError, WrongInputError
from mayfly.project import find_project
from mayfly.quota import Demand, Finding, Limits, Need
from mayfly.quota_request import key, need_key, preferred, send, told
from mayfly.talk import confirm, tell

SHOWN = ("GPUS", "LOCAL-SSD", "CPUS-ALL")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" leaves a choice to the profile, or takes every region."""

    profile: str
    machine: str
    region: str
    provisioning: str

    def resolved(self) -> Demand:
        """Its machine and regions. WrongInputError for what cannot be meant."""
        loaded = profile.load(self.profile)
        machine = chosen("machine", self.machine or loaded.default_machine)
        one("provisioning", self.provisioning, machine.provisioning)
        offered = quota.regions(machine)
        if self.region:
            one("region", self.region, offered)
        return Demand(
            profile=loaded.name,
            machine=machine,
            provisioning=self.provisioning,
            regions=(self.region,) if self.region else offered,
        )


def open_project() -> Cloud:
    return connect(find_project().google_project())


def limits_of(cloud: Cloud) -> Limits:
    return quota.read(cloud.quotas.infos(quota.SERVICE))


def show_all(*, as_json: bool) -> None:
    """Print every limit on GPUs, Local SSD and vCPUs that is not 0, and every request."""
    cloud = open_project()
    limits, requests = limits_of(cloud), [told(p) for p in cloud.quotas.preferences()]
    held = [
        (quota_id, entry)
        for quota_id, entries in sorted(limits.items())
        for entry in entries
        if any(word in quota_id for word in SHOWN)
    ]
    if as_json:
        rows = [
            {"quota_id": quota_id, "dimensions": dict(entry.dimensions), "limit": entry.value}
            for quota_id, entry in held
        ]
        found = {"project": cloud.project, "limits": rows, "requests": requests}
        print(json.dumps(found, indent=2))
        return
    table("quota", "where", "limit")(
        (quota_id, where(entry.dimensions), quota.shown(entry.value))
        for quota_id, entry in held
        if entry.value
    )
    if requests:
        table("request", "where", "asked for", "granted", "state")(request_row(r) for r in requests)


def check(wanted: Wanted, *, as_json: bool) -> None:
    """Print what one VM needs and has in each region; RefusedError where none has it all."""
    demand = wanted.resolved()
    cloud = open_project()
    by_region = demand.check(limits_of(cloud))
    good = [region for region, found in by_region.items() if not any(f.short for f in found)]
    if as_json:
        print(json.dumps(as_dict(cloud.project, demand, by_region, good), indent=2))
    else:
        table("region", "quota", "needed", "limit", "")(rows(by_region))
    if not good:
        raise demand.refusal(by_region)
    if not as_json:
        tell(f"Enough for {demand.what} in: {', '.join(good)}. What other VMs use is not in these.")


def rows(by_region: dict[str, list[Finding]]) -> Iterable[tuple[str, ...]]:
    """Limits over all regions once, then each region's."""
    seen = set()
    for findings in by_region.values():
        for found in findings:
            place = found.need.dimensions.get("region", "all")
            if place != "all" or found.need.quota_id not in seen:
                yield (place, *row(found))
            seen.add(found.need.quota_id)


def row(found: Finding) -> tuple[str, ...]:
    mark = "short" if found.short else "?" if found.limit is None else "ok"
    return found.need.quota_id, f"{found.need.least:,}", quota.shown(found.limit), mark


def as_dict(
    project: str, demand: Demand, by_region: dict[str, list[Finding]], good: list[str]
) -> dict[str, Any]:
    return {
        "project": project,
        "profile": demand.profile,
        "machine": demand.machine.name,
        "provisioning": demand.provisioning,
        "enough": bool(good),
        "enough_in": good,
        "regions": {
            region: [
                {"quota_id": f.need.quota_id, "needed": f.need.least}
                | {"limit": f.limit, "short": f.short}
                for f in findings
            ]
            for region, findings in by_region.items()
        },
    }


def request(wanted: Wanted, *, email: str, yes: bool, as_json: bool) -> None:
    """Ask Google for each limit that is short in one region, after showing them.

    A request that asks for as much already is left alone. RefusedError where Google has not
    granted all of it (yet).
    """
    demand = wanted.resolved()
    if len(demand.regions) > 1:
        raise WrongInputError(
            f"--region is missing: {demand.machine.name} is in {', '.join(demand.regions)}.",
            "Nothing was requested.",
            f"Try: {demand.request_command(demand.regions[0])}",
        )
    cloud = open_project()
    findings = quota.check(limits_of(cloud), demand.machine, demand.provisioning, demand.regions[0])
    short = [found.need for found in findings if found.short]
    asked = {key(p): p for p in cloud.quotas.preferences()}
    fresh = [need for need in short if preferred(asked.get(need_key(need))) < need.least]
    if fresh:
        agree(fresh, email, yes)
    for need in fresh:
        asked[need_key(need)] = send(cloud, need, email, asked.get(need_key(need)))
    report(demand, [told(asked[need_key(need)]) for need in short], as_json)


def agree(fresh: list[Need], email: str, yes: bool) -> None:
    """Show what is asked for; WrongInputError without a yes, or without an address."""
    for need in fresh:
        tell(f"To ask for: {need.quota_id}, {where(need.dimensions)}: {need.least:,}")
    if not email:
        raise WrongInputError(
            "--email is missing: Google answers a quota request to an address.",
            "Nothing was requested.",
            "Try: the same command with --email YOU@EXAMPLE.COM",
        )
    confirm("Ask Google for this?", yes=yes, undone="Nothing was requested.")


def report(demand: Demand, requests: list[dict[str, Any]], as_json: bool) -> None:
    region = demand.regions[0]
    if as_json:
        print(json.dumps({"region": region, "requests": requests}, indent=2))
    elif requests:
        table("request", "where", "asked for", "granted", "state")(request_row(r) for r in requests)
    else:
        tell(f"Nothing to ask for: {region} has enough for {demand.what}.")
    waiting = [r for r in requests if r["state"] != "granted"]
    if waiting:
        raise RefusedError(
            f"Not granted yet: {', '.join(r['quota_id'] for r in waiting)}.",
            "Nothing runs and nothing is billed; Google answers by mail, often within two days.",
            "Try: mayfly quota list   (shows the state of each request)",
        )


def request_row(request: dict[str, Any]) -> tuple[str, ...]:
    state = " ".join(filter(None, (request["state"], request["detail"])))
    numbers = f"{request['asked']:,}", f"{request['granted']:,}"
    return request["quota_id"], where(request["dimensions"]), *numbers, state


def where(dimensions: Any) -> str:
    return ", ".join(str(dimensions[k]) for k in sorted(dimensions, reverse=True)) or "all regions"


def table(*columns: str) -> Any:
    """A printer of rows under these columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def show(found: Iterable[tuple[str, ...]]) -> None:
        made = Table(*columns)
        for cells in found:
            made.add_row(*(Text(cell) for cell in cells))
        Console().print(made)

    return show
