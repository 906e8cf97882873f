"""What `mayfly up` is asked for: checked before anything else, then in the ladder's terms."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import names, profile, settings, vms
from mayfly.commands.up_ground import Ground
from mayfly.config import KEYS
from mayfly.errors import WrongInputError
from mayfly.ladder.rungs import Question
from mayfly.machines import ALL_ZONES, GPU_MACHINES, REGIONS, region_of
from mayfly.problems import NOTHING_DONE, one_of
from mayfly.project import Project
from mayfly.spans import parse_span


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" and None leave it to the stack's configuration, then to the default.

    machine, zone, region, provisioning: lists with commas.
    """

    profile: str
    session: str
    mode: str
    machine: str
    zone: str
    region: str
    provisioning: str
    hours: float | None
    budget: float | None
    max_hourly: float | None
    retry_for: str
    watch: bool


def check(wanted: Wanted) -> float:
    """The seconds of --retry-for. WrongInputError for what cannot be meant, whatever the cloud."""
    vms.check_session_name(wanted.session)
    if wanted.profile:
        profile.load(wanted.profile)
    listed("mode", wanted.mode, profile.MODES)
    listed("machine", wanted.machine, tuple(GPU_MACHINES))
    listed("zone", wanted.zone, ALL_ZONES)
    listed("region", wanted.region, REGIONS)
    listed("provisioning", wanted.provisioning, tuple(names.PROVISIONING))
    above_zero("hours", wanted.hours)
    above_zero("budget", wanted.budget)
    above_zero("max-hourly", wanted.max_hourly)
    span_s = parse_span(wanted.retry_for) if wanted.retry_for else 0
    if span_s is None:
        raise WrongInputError(
            f"--retry-for {wanted.retry_for}: it must be a whole number and s, m, h or d.",
            NOTHING_DONE,
            "Try: mayfly up --retry-for 2h",
        )
    return float(span_s)


def above_zero(what: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise WrongInputError(
            f"--{what} {value:g}: it must be a number above 0.",
            NOTHING_DONE,
            f"Try: leave out --{what}, or: mayfly up --dry-run, which shows what places cost",
        )


def listed(what: str, text: str, valid: Sequence[str]) -> list[str]:
    """A list with commas. WrongInputError names the valid ones."""
    values = [value for part in text.split(",") if (value := part.strip())]
    for value in values:
        if value not in valid:
            raise WrongInputError(f"--{what}: {value!r}. {one_of(valid)}", NOTHING_DONE)
    return list(dict.fromkeys(values))


def session_config(project: Project, session: str) -> dict[str, Any]:
    """The session's configuration as written. WrongInputError where the stack is another layer."""
    layer = project.layer(session)
    if layer not in (None, names.SESSION):
        raise WrongInputError(
            f"Stack {session!r} is a {layer}, not a session.",
            NOTHING_DONE,
            "Try: mayfly up --session dev",
        )
    written = project.config(session)
    if written.get("mayfly:probe"):
        raise WrongInputError(
            f"Stack {session!r} measures a rank (mayfly:probe), and serves nothing.",
            NOTHING_DONE,
            "Try: mayfly probe PROFILE --cloud, or another name: mayfly up --session dev",
        )
    return written


def session_keys(wanted: Wanted, written: Mapping[str, Any]) -> dict[str, str]:
    """What the stack is configured with beside what a rung says."""
    keys = {
        "mayfly:layer": names.SESSION,
        "mayfly:profile": wanted.profile or value(written, "profile"),
        "mayfly:mode": wanted.mode or value(written, "mode"),
    }
    if wanted.hours:
        keys["mayfly:maxHours"] = f"{wanted.hours:g}"
    if wanted.budget:
        keys["mayfly:budgetUsd"] = f"{wanted.budget:g}"
    return keys


def value(written: Mapping[str, Any], key: str) -> str:
    """A key as the stack's file or its default has it."""
    found = written.get(f"mayfly:{key}")
    return str(KEYS[key] if found is None else found)


def foundation_of(written: Mapping[str, Any]) -> str:
    return value(written, "foundationStack")


def asked(
    wanted: Wanted,
    written: Mapping[str, Any],
    chosen: profile.Profile,
    ground: Ground,
    regions: Sequence[str],
) -> Question:
    """The question in the ladder's terms. WrongInputError for what cannot be meant."""
    mode = wanted.mode or value(written, "mode")
    listed("mode", mode, profile.MODES)
    models = wanted.provisioning or value(written, "provisioning") or "spot"
    zones = listed("zone", wanted.zone, ALL_ZONES)
    budget = wanted.budget or number("budgetUsd", value(written, "budgetUsd") or "0")
    if zones and not wanted.region:
        regions = [region for region in regions if region in {region_of(z) for z in zones}]
    return Question(
        profile=chosen,
        regions=regions,
        weights_region=ground.home,
        mode=mode,
        machines=listed("machine", wanted.machine, tuple(chosen.machines)),
        zones=zones,
        provisioning=listed("provisioning", models, tuple(names.PROVISIONING)),
        hours=wanted.hours or number("maxHours", value(written, "maxHours")),
        budget_usd=budget or None,
        max_hourly_usd=wanted.max_hourly,
    )


def number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongInputError(f"mayfly:{key}: {text!r} is no number.", NOTHING_DONE) from None


def validate(
    written: Mapping[str, Any], keys: Mapping[str, str], session: str, google_project: str
) -> None:
    """ConfigError with every problem that the program would find, before anything exists."""
    merged = {**written, **keys}
    raw = {
        key.removeprefix("mayfly:"): text(found)
        for key, found in merged.items()
        if key.startswith("mayfly:")
    }
    settings.parse(raw, stack=session, project=google_project)


def text(found: Any) -> str:
    """A value of a stack's file as Pulumi hands it to the program."""
    return found if isinstance(found, str) else json.dumps(found)
