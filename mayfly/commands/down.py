"""`mayfly down`: destroy sessions now, and say what they cost."""

import time
from collections.abc import Sequence

from mayfly import idle, names, ssh_config, vms
from mayfly.cloud import Cloud, CloudError, connect
from mayfly.engine import Engine
from mayfly.errors import FailedError, MayflyError, WrongInputError
from mayfly.project import Project, find_project
from mayfly.talk import confirm, tell


def run(session: str, *, all_sessions: bool, yes: bool) -> None:
    """Destroy one session, or every session and seed. Asks first; a foundation is never touched."""
    if bool(session) == all_sessions:
        raise WrongInputError(
            "Name one session, or say --all.", "Nothing was attempted.", "Try: mayfly status"
        )
    if session:
        vms.check_session_name(session)
    project = find_project()
    # Before Pulumi, which tries to reach its bucket for minutes and answers in fifty lines.
    cloud = connect(project.google_project())
    there = vms.all_of_ours(cloud)
    running = {vm.session: vm for vm in there}
    engine = Engine(project)
    found = chosen(engine, project, session)
    if found:
        what = ", ".join(f"{stack}{cost(running.get(stack))}" for stack in found)
        undone = "Nothing was attempted."
        confirm(f"Destroy {what}?", yes=yes, undone=undone, what=f"the end of {what}")
    for stack in found:
        end_watch(cloud, project, stack)
    destroy_each(engine, found, running)
    check_lost(cloud, [vm for vm in there if all_sessions or vm.session in found])
    if not found:
        tell("There is no session; nothing costs money.")


def chosen(engine: Engine, project: Project, session: str) -> list[str]:
    """The stacks to destroy. Raises WrongInputError for one that is not there, or no session."""
    stacks = engine.stacks()
    if not session:
        return [s for s in stacks if layer(engine, project, s) in (names.SESSION, names.SEED)]
    if session not in stacks:
        raise WrongInputError(
            f"No session {session!r}.",
            f"Stacks there: {', '.join(sorted(stacks)) or 'none'}. Nothing was attempted.",
            "Try: mayfly status",
        )
    if layer(engine, project, session) == names.FOUNDATION:
        bucket = names.bucket(project.google_project(), "weights")
        raise WrongInputError(
            f"{session!r} is a foundation: sessions, the reaper and the weights live on it, and "
            "its bucket of weights is protected.",
            "Nothing was attempted.",
            f"To remove it for good: gcloud storage rm 'gs://{bucket}/**'; pulumi state unprotect "
            f"--all --yes --stack {session} && pulumi destroy --stack {session}",
        )
    return [session]


def layer(engine: Engine, project: Project, stack: str) -> str | None:
    """A stack's layer: its state's word, then its file's; None if neither says. Never guessed."""
    for resource in engine.resources(stack):
        if resource.get("type") == names.INSTANCE_TYPE:
            labels = (resource.get("outputs") or {}).get("labels") or {}
            return str(labels.get(names.LABEL_LAYER, "")) or None
    return project.layer(stack)


def cost(vm: vms.Vm | None) -> str:
    """ " (ran 12 min, about $5.20)" for a VM that is there."""
    if vm is None:
        return " (no machine)"
    now = time.time()
    usd = vm.cost_usd(now)
    told = "at an unknown rate" if usd is None else f"about ${usd:.2f}"
    return f" (ran {vm.age_s(now) / 60:.0f} min, {told})"


def end_watch(cloud: Cloud, project: Project, stack: str) -> None:
    """Tell a `mayfly up --watch` that the session is not wanted any more. Best effort: without it
    the watch sees that somebody deleted the VM."""
    try:
        cloud.storage.delete(project.state_bucket(cloud.project), names.watch(stack))
    except CloudError as error:
        tell(f"a watch of {stack}, if there is one, was not told: {error.message}")


def destroy_each(engine: Engine, stacks: list[str], running: dict[str, vms.Vm]) -> None:
    """Destroy one after another; one failure does not keep the others. FailedError at the end."""
    failed: list[str] = []
    for stack in stacks:
        try:
            engine.run("destroy", "--yes", "--refresh", "--skip-preview", "--stack", stack)
        except MayflyError as error:
            failed.append(stack)
            tell(str(error))
            continue
        tell(f"{stack} is gone{cost(running.get(stack))}.")
        if ssh_config.remove(stack):
            tell(f"Its entry in ~/{ssh_config.FOLDER} is gone too.")
    if failed:
        raise FailedError(
            f"Not destroyed: {', '.join(failed)}.",
            "They may still cost money; the reaper ends their machines when they are idle.",
            "Try: mayfly status",
        )


def check_lost(cloud: Cloud, ended: Sequence[vms.Vm]) -> None:
    """FailedError where one of these runs on: a VM outside every state must not read as gone."""
    if not ended:
        return
    try:
        lives = {vm.id for vm in vms.all_of_ours(cloud) if vm.status not in idle.GONE}
    except CloudError as error:
        raise FailedError(
            f"Whether {', '.join(map(place, ended))} is gone was not to be seen: {error.message}",
            "What the stacks held was destroyed; a VM outside them would go on costing money.",
            "Try: mayfly status",
        ) from error
    lost = [place(vm) for vm in ended if vm.id in lives]
    if lost:
        raise FailedError(
            f"In no stack that is here, and still there: {', '.join(lost)}.",
            "They cost money until the reaper ends them, idle or at their deadline.",
            "Try: mayfly doctor   (which says whose they are, and how to end them)",
        )


def place(vm: vms.Vm) -> str:
    return f"{vm.name} ({vm.zone})"
