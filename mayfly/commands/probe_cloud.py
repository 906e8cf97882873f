"""`mayfly probe --cloud`: one rank on a rented VM with one GPU, which ends itself.

It is a session like any other, with the same three ways to its end; what it leaves is its log.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import idle, names, pricing
from mayfly.cloud import Cloud, connect
from mayfly.commands.up_ground import Ground, project_key, survey
from mayfly.commands.up_walk import end_as_ctrl_c, walk
from mayfly.commands.up_wanted import foundation_of, listed
from mayfly.engine import Engine
from mayfly.errors import FailedError, RefusedError, WrongInputError
from mayfly.ladder.lives import Grant
from mayfly.ladder.rungs import Place, Rung, rank
from mayfly.ladder.walk import Ladder
from mayfly.launch import Launch, StoppedError
from mayfly.leases import user
from mayfly.machines import GPUS, MACHINES, alone
from mayfly.probe_case import Plan, beside, case_of, read
from mayfly.problems import NOTHING_DONE
from mayfly.project import Project, find_project
from mayfly.talk import confirm, tell
from mayfly.watch import Watch

SESSION = "probe"
HOURS = 0.75
"""The VM's whole life at most: driver, engine, a first start that compiles, the measurements."""
START_MINUTES = "35"
LAST_FIGURE = "gpu_gib"
"""What `mayfly.probe_rank` says when all else is measured."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """zone: with commas; "" = all that the foundation reaches. out: folder for the engine's log."""

    plan: Plan
    session: str
    zone: str
    out: Path
    yes: bool


def run(asked: Asked) -> dict[str, Any]:
    """The figures beside the plan's; "left": why its stack is still there, None once it is gone.

    RefusedError: nothing was made. FailedError says what is left.
    """
    case_of(asked.plan)  # FitError before anything is asked of Google
    project = find_project()
    engine, cloud = Engine(project, sys.stderr), connect(project.google_project())
    ground = survey(project, engine, cloud, foundation_of(own_config(project, asked.session)))
    found = places(asked, ground)
    tell(f"- {line(asked, found)}")
    confirm("Go on?", yes=asked.yes, undone=NOTHING_DONE, what="this")
    launch, bucket = hands(asked, ground), str(ground.outputs["cache_bucket"])
    end_as_ctrl_c()
    # Two who start in the same seconds both see no VM; of the watch there is one.
    watch = Watch(cloud, launch.state_bucket, asked.session, user())
    watch.tell, watch.instead = tell, f"{launch.command} --session {asked.session}-2"
    with watch:
        leave_alone(launch)
        try:
            walk(launch, Ladder(rungs=found, retry_for_s=0), watch)
        except StoppedError:
            raise  # it says what is there, and how to end it
        except FailedError as error:
            raise not_measured(asked, launch, watch, bucket, error) from None
        try:
            fetched = fetch(asked, cloud, engine.outputs(asked.session), bucket)
        finally:
            left = take_away(launch, watch)  # its VM has ended already; the stack goes, too
    return {**fetched, "left": left}


def not_measured(
    asked: Asked, launch: Launch, watch: Watch, bucket: str, error: FailedError
) -> FailedError:
    """What to say of a VM that did not measure all; its log is fetched, and it is taken away."""
    log = kept_log(asked, launch, bucket)
    left = take_away(launch, watch)
    return FailedError(
        f"The rank was not measured: {error.what}",
        left or "What was started for it is gone; nothing is billed any more.",
        f"Why is above.{log}" + (f" Try: mayfly down {asked.session}" if left else ""),
    )


def kept_log(asked: Asked, launch: Launch, bucket: str) -> str:
    """Where the figures are that an engine told before it ended early, in a sentence."""
    try:
        vm_id = launch.in_state()
        name = names.probe_log(vm_id)
        if not vm_id or bring(asked, launch.cloud, bucket, name) is None:
            return ""
    except FailedError as error:
        return f" The log could not be fetched ({error.what}); see gs://{bucket}/probes/."
    return f" What the engine said and measured until then: {log_path(asked)}, gs://{bucket}/{name}"


def take_away(launch: Launch, watch: Watch) -> str | None:
    """Destroy the stack; None, or why it is still there, which is told.

    Whoever has lost the watch does not know any more whose VM the stack holds.
    """
    left = None
    if not watch.renewed():
        left = f"{launch.session} was left alone: somebody else ended it, or has it now."
    else:
        try:
            launch.end()
        except FailedError as error:
            left = f"Stack {launch.session!r} was not taken away: {error.what}"
    if left:
        left += " The reaper takes what is left of it; a VM ends at its deadline at the latest."
        tell(left)
    return left


def own_config(project: Project, session: str) -> dict[str, Any]:
    """The stack's configuration. WrongInputError for a stack that serves, or is no session."""
    written = project.config(session)
    if written.get("mayfly:layer", names.SESSION) != names.SESSION or (
        written.get("mayfly:profile") and not written.get("mayfly:probe")
    ):
        raise WrongInputError(
            f"Stack {session!r} is not a probe's.",
            NOTHING_DONE,
            "Try: mayfly probe PROFILE --cloud --session another-name",
        )
    return written


def leave_alone(launch: Launch) -> None:
    """RefusedError where the stack has a VM: what a failed probe takes away must be its own.

    A stack's file says nothing here: the VM may be a colleague's, of a stack of the same name.
    """
    if any(vm.status not in idle.GONE for vm in launch.all()):
        raise RefusedError(
            f"Stack {launch.session!r} has a VM already.",
            f"{NOTHING_DONE} {launch.left()}",
            f"Try: {launch.command} --session {launch.session}-2",
        )


def places(asked: Asked, ground: Ground) -> tuple[Rung, ...]:
    """Where one such GPU can be asked for, cheapest first. RefusedError where nowhere."""
    if not ground.outputs:
        raise RefusedError(
            f"There is no foundation, stack {ground.stack}.",
            NOTHING_DONE,
            f"Try: pulumi up --stack {ground.stack}",
        )
    machines = alone(MACHINES[asked.plan.machine])
    valid = sorted({zone for machine in machines for zone in MACHINES[machine].zones})
    zones = listed("zone", asked.zone, valid) or valid
    found = rank(
        [rung for machine in machines for rung in _rungs(machine, zones) if _reached(rung, ground)]
    )
    if found:
        return found
    raise RefusedError(
        f"No {MACHINES[asked.plan.machine].gpu} is sold alone and as spot, with a known price, in "
        f"{', '.join(ground.there)}.",
        NOTHING_DONE,
        "Try: mayfly up --dry-run, which lists places; or the probe on a machine with that GPU",
    )


def _rungs(machine: str, zones: list[str]) -> Iterator[Rung]:
    for zone in MACHINES[machine].zones:
        rate = pricing.lookup(machine, zone, "spot") if zone in zones else None
        if rate is not None:
            place = Place(machine=machine, zone=zone, provisioning="spot")
            yield Rung(place=place, rate=rate, hours=HOURS, egress_usd=0.0)


def _reached(rung: Rung, ground: Ground) -> bool:
    return rung.place.region in ground.there


def line(asked: Asked, found: tuple[Rung, ...]) -> str:
    """What it may cost, before it is asked for."""
    return (
        f"measure one rank of {asked.plan.profile.name} for {asked.plan.machine} in the first of "
        f"{len(found)} places that has room (best: {found[0].place}), "
        f"{max(rung.usd for rung in found):.2f} USD at most; it ends itself"
    )


def hands(asked: Asked, ground: Ground) -> Launch:
    keys = {
        "mayfly:layer": names.SESSION,
        "mayfly:profile": asked.plan.profile.name,
        "mayfly:mode": asked.plan.mode,
        "mayfly:probe": asked.plan.machine,
        "mayfly:startMinutes": START_MINUTES,
    }
    return Launch(
        engine=ground.engine,
        cloud=ground.cloud,
        session=asked.session,
        state_bucket=str(ground.outputs["state_bucket"]),
        keys=keys | project_key(ground.cloud.project),
        tell=tell,
        grant=Grant(hours=HOURS, budget_usd=None),
        command=f"mayfly probe {asked.plan.profile.name} --cloud",
        go_on=f"mayfly down {asked.session}, which ends it; then the same command again",
    )


def fetch(asked: Asked, cloud: Cloud, outputs: dict[str, Any], bucket: str) -> dict[str, Any]:
    """The engine's log out of the bucket, and its figures beside the plan's."""
    name = names.probe_log(str(outputs["vm_id"]))
    text = bring(asked, cloud, bucket, name)
    if text is None:
        raise FailedError(
            f"gs://{bucket}/{name} is not there: the rank was measured, and its log is lost.",
            "Its VM has ended.",
            "Try: the same command again",
        )
    measured = read(text)
    measured["exit"] = 0 if LAST_FIGURE in measured else 1
    measured["error"] = text[-800:]
    gpu = MACHINES[asked.plan.machine].gpu
    found = beside(asked.plan, measured, gpu, GPUS[gpu].gib)
    where = {"zone": outputs["zone"], "log": f"gs://{bucket}/{name}"}
    return {**found, "engine": asked.plan.profile.engine.vllm, **where}


def bring(asked: Asked, cloud: Cloud, bucket: str, name: str) -> str | None:
    """The engine's log, which is written to the user's folder; None where the bucket has none."""
    blob = cloud.storage.get(bucket, name)
    if blob is None:
        return None
    text = blob.data.decode("utf-8", "replace")
    asked.out.mkdir(parents=True, exist_ok=True)
    log_path(asked).write_text(text, encoding="utf-8")
    return text


def log_path(asked: Asked) -> Path:
    return asked.out / f"{case_of(asked.plan).name}.log"
