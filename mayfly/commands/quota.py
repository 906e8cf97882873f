"""`mayfly quota`: what Google grants this project, what a profile needs, and asking for more."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import typer

from mayfly import names, profile, quota
from mayfly.cloud import Cloud, connect
from mayfly.commands.plan import chosen, one
from mayfly.errors import RefusedError, WrongInputError
from mayfly.machines import MachineType
from mayfly.problems import NOTHING_DONE
from mayfly.project import find_project
from mayfly.quota import Finding, Limits, Need

SHOWN = ("GPUS", "LOCAL-SSD", "CPUS-ALL")
JUSTIFICATION = "One VM with all of these GPUs, for hours at a time, to serve one language model."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" leaves a choice to the profile, or takes every region."""

    profile: str
    machine: str
    region: str
    provisioning: str

    def resolved(self) -> "Launch":
        """Its machine and regions. WrongInputError for what cannot be meant."""
        loaded = profile.load(self.profile)
        machine = chosen("machine", self.machine or loaded.default_machine)
        one("provisioning", self.provisioning, machine.provisioning)
        offered = quota.regions(machine)
        if self.region:
            one("region", self.region, offered)
        return Launch(
            profile=loaded.name,
            machine=machine,
            provisioning=self.provisioning,
            regions=(self.region,) if self.region else offered,
        )


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What is to be launched, and where it may be."""

    profile: str
    machine: MachineType
    provisioning: str
    regions: tuple[str, ...]

    @property
    def what(self) -> str:
        return f"{self.machine.name} as {self.provisioning}"


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
    launch = wanted.resolved()
    cloud = open_project()
    limits = limits_of(cloud)
    by_region = {
        region: quota.check(limits, launch.machine, launch.provisioning, region)
        for region in launch.regions
    }
    good = [region for region, found in by_region.items() if not any(f.short for f in found)]
    if as_json:
        print(json.dumps(as_dict(cloud.project, launch, by_region, good), indent=2))
    else:
        table("region", "quota", "needed", "limit", "")(rows(by_region))
    if not good:
        raise refusal(launch, by_region)
    if not as_json:
        say(f"Enough for {launch.what} in: {', '.join(good)}. What other VMs use is not in these.")


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
    project: str, launch: Launch, by_region: dict[str, list[Finding]], good: list[str]
) -> dict[str, Any]:
    return {
        "project": project,
        "profile": launch.profile,
        "machine": launch.machine.name,
        "provisioning": launch.provisioning,
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


def refusal(launch: Launch, by_region: dict[str, list[Finding]]) -> RefusedError:
    """What is short in the region that comes closest."""
    region = min(by_region, key=lambda r: (count(by_region[r]), -first_limit(by_region[r])))
    short = [found for found in by_region[region] if found.short]
    what = "; ".join(
        f"{f.need.quota_id} is {quota.shown(f.limit)}, {f.need.least:,} are needed" for f in short
    )
    return RefusedError(
        f"No region's quota is enough for {launch.what}. Closest is {region}: {what}.",
        f"Such a VM would be refused at once. {NOTHING_DONE}",
        f"Try: {request_command(launch, region)}",
    )


def count(findings: list[Finding]) -> int:
    return sum(found.short for found in findings)


def first_limit(findings: list[Finding]) -> int:
    """The GPUs' own limit: of two regions that fall short, the one that has more is closer."""
    return findings[0].limit or 0


def request_command(launch: Launch, region: str) -> str:
    return (
        f"mayfly quota request {launch.profile} --machine {launch.machine.name} "
        f"--provisioning {launch.provisioning} --region {region} --email YOU@EXAMPLE.COM"
    )


def request(wanted: Wanted, *, email: str, yes: bool, as_json: bool) -> None:
    """Ask Google for each limit that is short in one region, after showing them.

    A request that asks for as much already is left alone. RefusedError where Google has not
    granted all of it (yet).
    """
    launch = wanted.resolved()
    if len(launch.regions) > 1:
        raise WrongInputError(
            f"--region is missing: {launch.machine.name} is in {', '.join(launch.regions)}.",
            "Nothing was requested.",
            f"Try: {request_command(launch, launch.regions[0])}",
        )
    cloud = open_project()
    findings = quota.check(limits_of(cloud), launch.machine, launch.provisioning, launch.regions[0])
    short = [found.need for found in findings if found.short]
    asked = {key(p): p for p in cloud.quotas.preferences()}
    fresh = [need for need in short if preferred(asked.get(need_key(need))) < need.least]
    if fresh:
        agree(fresh, email, yes)
    for need in fresh:
        asked[need_key(need)] = send(cloud, need, email, asked.get(need_key(need)))
    report(launch, [told(asked[need_key(need)]) for need in short], as_json)


def agree(fresh: list[Need], email: str, yes: bool) -> None:
    """Show what is asked for; WrongInputError without a yes, or without an address."""
    for need in fresh:
        say(f"To ask for: {need.quota_id}, {where(need.dimensions)}: {need.least:,}")
    if not email:
        raise WrongInputError(
            "--email is missing: Google answers a quota request to an address.",
            "Nothing was requested.",
            "Try: the same command with --email YOU@EXAMPLE.COM",
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongInputError(
            "Nobody is here to confirm it.",
            "Nothing was requested.",
            "Try: the same command with --yes",
        )
    if not typer.confirm("Ask Google for this?", err=True):
        raise WrongInputError("Nothing was requested.")


def send(cloud: Cloud, need: Need, email: str, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """Make or raise one request; never lowers one."""
    config = {"quotaConfig": {"preferredValue": str(need.least)}, "contactEmail": email}
    config |= {"justification": JUSTIFICATION}
    if earlier:
        return cloud.quotas.change(str(earlier["name"]), config)
    which = {"service": quota.SERVICE, "quotaId": need.quota_id}
    place = {"dimensions": dict(need.dimensions)} if need.dimensions else {}
    return cloud.quotas.request(preference_id(need), config | which | place)


def preference_id(need: Need) -> str:
    """The same for the same limit: whoever asks twice asks once."""
    limit = need.quota_id.partition("-per-")[0]
    words = ["mayfly", limit, *(need.dimensions[key] for key in sorted(need.dimensions))]
    return names.slug("-".join(words).replace("_", "-"))


def report(launch: Launch, requests: list[dict[str, Any]], as_json: bool) -> None:
    region = launch.regions[0]
    if as_json:
        print(json.dumps({"region": region, "requests": requests}, indent=2))
    elif requests:
        table("request", "where", "asked for", "granted", "state")(request_row(r) for r in requests)
    else:
        say(f"Nothing to ask for: {region} has enough for {launch.what}.")
    waiting = [r for r in requests if r["state"] != "granted"]
    if waiting:
        raise RefusedError(
            f"Not granted yet: {', '.join(r['quota_id'] for r in waiting)}.",
            "Nothing runs and nothing is billed; Google answers by mail, often within two days.",
            "Try: mayfly quota list   (shows the state of each request)",
        )


def key(preference: dict[str, Any]) -> tuple[str, ...]:
    """Which limit a request is about."""
    dimensions = preference.get("dimensions") or {}
    return str(preference.get("quotaId")), *(f"{k}={dimensions[k]}" for k in sorted(dimensions))


def need_key(need: Need) -> tuple[str, ...]:
    return key({"quotaId": need.quota_id, "dimensions": need.dimensions})


def preferred(preference: dict[str, Any] | None) -> int:
    return int(((preference or {}).get("quotaConfig") or {}).get("preferredValue") or 0)


def told(preference: dict[str, Any]) -> dict[str, Any]:
    """A request as we tell it. state: waiting, granted or refused (in part)."""
    config = preference.get("quotaConfig") or {}
    granted, asked = int(config.get("grantedValue") or 0), preferred(preference)
    state = "granted" if granted >= asked else "refused"
    if preference.get("reconciling"):
        state = "waiting"
    return {
        "quota_id": str(preference.get("quotaId")),
        "dimensions": preference.get("dimensions") or {},
        "asked": asked,
        "granted": granted,
        "state": state,
        "detail": str(config.get("stateDetail") or ""),
    }


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


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
