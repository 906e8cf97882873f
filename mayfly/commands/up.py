"""`mayfly up`: from nothing to an endpoint, through stockouts; with --watch through preemptions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mayfly import names, profile
from mayfly.cloud import Cloud, CloudError, connect
from mayfly.commands.up_board import Board, tell_dry, tell_landed
from mayfly.commands.up_ground import Ground, project_key, survey
from mayfly.commands.up_rank import ranking
from mayfly.commands.up_walk import end_as_ctrl_c, walk
from mayfly.commands.up_wanted import (
    Wanted,
    asked,
    check,
    foundation_of,
    listed,
    session_config,
    session_keys,
    validate,
)
from mayfly.commands.up_watch import Vigil, keep_up
from mayfly.engine import Engine
from mayfly.errors import FailedError
from mayfly.ladder.lives import Grant
from mayfly.ladder.rungs import Question, Rung
from mayfly.ladder.walk import Attempt, Ladder
from mayfly.launch import Launch
from mayfly.launch_words import rung_keys
from mayfly.leases import user
from mayfly.machines import REGIONS
from mayfly.problems import NOTHING_DONE
from mayfly.project import find_project
from mayfly.setup import look
from mayfly.talk import confirm, tell
from mayfly.vms import COMPUTE_IS_OFF
from mayfly.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is asked for, and what there is. keys: of the stack, beside what a rung says."""

    ground: Ground
    session: str
    written: Mapping[str, Any]
    keys: Mapping[str, str]
    question: Question
    regions: Sequence[str]

    @property
    def launch(self) -> Launch:
        return Launch(
            engine=self.ground.engine,
            cloud=self.ground.cloud,
            session=self.session,
            state_bucket=str(self.ground.outputs["state_bucket"]),
            keys=self.keys,
            tell=tell,
            grant=Grant(hours=self.question.hours, budget_usd=self.question.budget_usd),
        )


def run(wanted: Wanted, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Bring a session up in the best place that has room. Asks before anything costs money."""
    retry_for_s = check(wanted)
    scene = set_out(wanted)
    ranked = ranking(scene.question, scene.ground.cloud, tell)
    if dry_run:
        tell_dry(ranked.found, ranked.left, as_json=as_json)
    if ranked.refusal:
        raise ranked.refusal
    if dry_run:
        return
    ladder = Ladder(rungs=made_ready(scene, ranked.found, yes), retry_for_s=retry_for_s)

    def landed(attempts: Sequence[Attempt]) -> None:
        outputs = scene.ground.engine.outputs(scene.session)
        tell_landed(scene.session, attempts, outputs, as_json=as_json)

    launch = scene.launch
    if not wanted.watch:
        return landed(walk(launch, ladder))
    with Watch(launch.cloud, launch.state_bucket, scene.session, user()) as watch:
        watch.tell = tell
        attempts = walk(launch, ladder, watch)
        landed(attempts)
        vigil = Vigil(launch=launch, question=scene.question, watch=watch, landed=landed)
        keep_up(vigil, attempts)


def set_out(wanted: Wanted) -> Scene:
    """Look what there is. One message where Google or Pulumi refuse the project as a whole."""
    project = find_project()
    google_project, engine = project.google_project(), Engine(project, sys.stderr)
    written = session_config(project, wanted.session)
    keys = session_keys(wanted, written) | project_key(google_project)
    cloud = connect(google_project)
    off = compute_off(cloud)
    ground = survey(project, engine, cloud, foundation_of(written))
    if off and ground.outputs:
        raise off
    regions = listed("region", wanted.region, REGIONS) or ground.there
    chosen = profile.load(keys["mayfly:profile"])
    return Scene(
        ground=ground,
        session=wanted.session,
        written=written,
        keys=keys,
        question=asked(wanted, written, chosen, ground, regions),
        regions=regions,
    )


def compute_off(cloud: Cloud) -> CloudError | None:
    """Ask Google anything: a CloudError where it refuses; returned where only Compute's API is off,
    which a foundation that is not there yet will turn on."""
    try:
        next(iter(cloud.compute.instances(names.OUR_VMS)), None)
    except CloudError as error:
        if error.reason != COMPUTE_IS_OFF:
            raise
        return error
    return None


def made_ready(scene: Scene, found: tuple[Rung, ...], yes: bool) -> tuple[Rung, ...]:
    """Ask, then bring foundation and weights where they lack; the ladder as it is after that."""
    ground, chosen, session = scene.ground, scene.question.profile, scene.session
    first = rung_keys(found[0], found[0].hours)
    validate(scene.written, {**scene.keys, **first}, session, ground.cloud.project)
    missing = ground.missing(chosen, scene.regions)
    if missing:
        refuse_early(ground.cloud, seeding=not ground.has_weights(chosen))
    agree([*missing, launch_line(session, found), *far(ground, found)], yes)
    end_as_ctrl_c()
    if not missing:
        return found
    prepare(ground, chosen, scene.regions)
    ranked = ranking(scene.question, ground.cloud, tell)  # the APIs that tell more are on now
    if ranked.refusal:
        raise ranked.refusal
    if max(rung.usd for rung in ranked.found) > max(rung.usd for rung in found):
        agree([launch_line(session, ranked.found)], yes)
    return ranked.found


def refuse_early(cloud: Cloud, *, seeding: bool) -> None:
    """RefusedError for what would stop a foundation or a seed halfway, where Google tells it."""
    try:
        look.require_billing(cloud)
        if seeding:
            look.require_external_addresses(cloud)
    except CloudError as error:
        tell(f"could not be checked before: {error.message}")


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


def launch_line(session: str, found: Sequence[Rung]) -> str:
    """What the session may cost, before it is asked for."""
    rates = [rung.rate.usd_per_h for rung in found]
    most = max(rung.usd for rung in found)
    return (
        f"start {session} in the first of {len(found)} places that has room "
        f"(best: {found[0].place}), at {min(rates):.2f} to {max(rates):.2f} USD/h, "
        f"{most:.2f} USD at most until it ends by itself"
    )


def far(ground: Ground, found: Sequence[Rung]) -> list[str]:
    """A line where every place is in another region than the weights."""
    if any(rung.place.region == ground.home for rung in found):
        return []
    return [
        f"pull the weights out of {ground.home}, where their bucket is: about "
        f"{found[0].egress_usd:.2f} USD a start, which --region {ground.home} would spare"
    ]


def agree(what: Sequence[str], yes: bool) -> None:
    """Say what will be done, and ask unless told not to. WrongInputError where nobody answers."""
    for line in what:
        tell(f"- {line}")
    confirm("Go on?", yes=yes, undone=NOTHING_DONE, what="this")
