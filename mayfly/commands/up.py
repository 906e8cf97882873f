"""`mayfly up`: from nothing to an endpoint, through stockouts."""

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from mayfly import names, profile, settings, vms
from mayfly.cloud import connect
from mayfly.commands.up_advice import advised
from mayfly.commands.up_board import Board, no_rung, tell_dry, tell_landed
from mayfly.commands.up_ground import Ground, project_key, survey
from mayfly.config import KEYS
from mayfly.engine import Engine
from mayfly.errors import FailedError, WrongInputError
from mayfly.ladder.climb import climb
from mayfly.ladder.rungs import Rung, rungs
from mayfly.ladder.rungs import Wanted as WantedRungs
from mayfly.ladder.walk import Attempt, Ladder, Step, Try
from mayfly.launch import Launch, rung_keys
from mayfly.machines import ALL_ZONES, REGIONS, region_of
from mayfly.problems import NOTHING_DONE, one_of
from mayfly.project import Project, find_project

UNITS_S = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command line; "" and 0 leave it to the stack's configuration, then to the default.

    machine, zone, region, provisioning: lists with commas.
    """

    profile: str
    session: str
    mode: str
    machine: str
    zone: str
    region: str
    provisioning: str
    hours: float
    budget: float
    max_hourly: float
    retry_for: str


def run(wanted: Wanted, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Bring a session up in the best place that has room. Asks before anything costs money."""
    retry_for_s = check(wanted)
    project = find_project()
    google_project, engine = project.google_project(), Engine(project, sys.stderr)
    written = session_config(project, wanted.session)
    keys = session_keys(wanted, written) | project_key(google_project)
    ground = survey(project, engine, connect(google_project), foundation_of(written))
    regions = listed("region", wanted.region, REGIONS) or ground.there
    chosen = profile.load(keys["mayfly:profile"])
    question = asked(wanted, written, chosen, ground, regions)
    found, left = rungs(advised(question, ground.cloud, say))
    if dry_run:
        return tell_dry(found, left, as_json=as_json)
    if not found:
        raise no_rung(left)
    validate(written, {**keys, **rung_keys(found[0])}, wanted.session, google_project)
    missing = ground.missing(chosen, regions)
    confirm([*missing, launch_line(wanted.session, found)], yes)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # they end as Ctrl-C does
    if missing:
        prepare(ground, chosen, regions)
        found = ranked_again(question, ground, found, wanted.session, yes=yes)
    ladder = Ladder(rungs=found, retry_for_s=retry_for_s)
    attempts = go(ground, keys, wanted.session, ladder)
    outputs = engine.outputs(wanted.session)
    return tell_landed(wanted.session, attempts, outputs, as_json=as_json)


def prepare(ground: Ground, chosen: profile.Profile, regions: Sequence[str]) -> None:
    """Bring what is missing; FailedError after Ctrl-C."""
    try:
        with Board() as board:
            ground.prepare(chosen, regions, board.line)
    except KeyboardInterrupt:
        raise FailedError(
            "Interrupted.",
            "No GPU was asked for. A seed's VM that runs goes on, and ends itself.",
            "Try: mayfly status; then the same command, which goes on",
        ) from None


def ranked_again(
    question: WantedRungs, ground: Ground, before: Sequence[Rung], session: str, *, yes: bool
) -> tuple[Rung, ...]:
    """The ladder by what Google says once its APIs are on; asks again where it costs more."""
    found, left = rungs(advised(question, ground.cloud, say))
    if not found:
        raise no_rung(left)
    if max(rung.usd for rung in found) > max(rung.usd for rung in before):
        confirm([launch_line(session, found)], yes)
    return found


def check(wanted: Wanted) -> float:
    """The seconds of --retry-for. WrongInputError for what cannot be meant."""
    vms.check_session_name(wanted.session)
    text = wanted.retry_for
    if not text:
        return 0.0
    number, unit = text[:-1], UNITS_S.get(text[-1])
    if not unit or not number.isascii() or not number.isdigit():
        raise WrongInputError(
            f"--retry-for {text}: it must be a whole number and s, m or h.",
            NOTHING_DONE,
            "Try: mayfly up --retry-for 2h",
        )
    return float(number) * unit


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
    return project.config(session)


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
) -> WantedRungs:
    """The question in the ladder's terms. WrongInputError for what cannot be meant."""
    mode = wanted.mode or value(written, "mode")
    listed("mode", mode, profile.MODES)
    models = wanted.provisioning or value(written, "provisioning") or "spot"
    zones = listed("zone", wanted.zone, ALL_ZONES)
    budget = wanted.budget or number("budgetUsd", value(written, "budgetUsd") or "0")
    if zones and not wanted.region:
        regions = [region for region in regions if region in {region_of(z) for z in zones}]
    return WantedRungs(
        profile=chosen,
        regions=regions,
        weights_region=ground.home,
        mode=mode,
        machines=listed("machine", wanted.machine, tuple(chosen.machines)),
        zones=zones,
        provisioning=listed("provisioning", models, tuple(names.PROVISIONING)),
        hours=wanted.hours or number("maxHours", value(written, "maxHours")),
        budget_usd=budget or None,
        max_hourly_usd=wanted.max_hourly or None,
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


def launch_line(session: str, found: Sequence[Rung]) -> str:
    """What the session may cost, before it is asked for."""
    rates = [rung.rate.usd_per_h for rung in found]
    most = max(rung.usd for rung in found)
    return (
        f"start {session} in the first of {len(found)} places that has room "
        f"(best: {found[0].place}), at {min(rates):.2f} to {max(rates):.2f} USD/h, "
        f"{most:.2f} USD at most until it ends by itself"
    )


def confirm(what: Sequence[str], yes: bool) -> None:
    """Say what will be done, and ask unless told not to. WrongInputError where nobody answers."""
    for line in what:
        say(f"- {line}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongInputError(
            "Nobody is here to confirm this.", NOTHING_DONE, "Try: the same command with --yes"
        )
    if not typer.confirm("Go on?"):
        raise WrongInputError(NOTHING_DONE)


class Walk:
    """A clock for the walk, and the rung that is being asked: what Ctrl-C must look after."""

    def __init__(self, board: Board) -> None:
        self._board, self._began = board, time.monotonic()
        self.rung: Rung | None = None

    def now_s(self) -> float:
        return time.monotonic() - self._began

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def tell(self, attempts: Sequence[Attempt], step: Step) -> None:
        if isinstance(step, Try):
            self.rung = step.rung
        self._board.step(attempts, step)


def go(ground: Ground, keys: Mapping[str, str], session: str, ladder: Ladder) -> list[Attempt]:
    """Walk until the session serves. A VM of this session that lives is taken up first."""
    with Board() as board:
        walk = Walk(board)
        launch = Launch(
            engine=ground.engine,
            cloud=ground.cloud,
            session=session,
            state_bucket=str(ground.outputs["state_bucket"]),
            keys=keys,
            tell=board.line,
        )
        try:
            if launch.joined():
                return []
            return climb(ladder, launch, walk, walk.tell)
        except KeyboardInterrupt:
            raise launch.interrupted(walk.rung) from None


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
