"""`mayfly init`: everything that must be there before the first `pulumi up`."""

import dataclasses
import getpass
import re
import sys
from dataclasses import dataclass

import typer

from mayfly import names
from mayfly.cloud import connect
from mayfly.config import DEFAULT_PROFILE, DEFAULT_REGION, SHIPPED_SESSION
from mayfly.engine import Engine
from mayfly.errors import FailedError, MayflyError, WrongInputError
from mayfly.machines import REGIONS
from mayfly.problems import NOTHING_DONE, one_of
from mayfly.project import Project, find_project
from mayfly.setup import stacks
from mayfly.setup.look import Found, Wish, look
from mayfly.setup.steps import Step, steps
from mayfly.talk import confirm, tell

PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]|[a-z0-9.-]+:[a-z][a-z0-9-]{4,28}[a-z0-9]")
KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The command line; "" is asked for, or taken from the stack files."""

    project: str
    region: str
    bucket: str
    state_key: str
    token_from_stdin: bool
    no_token: bool
    seeding: bool
    yes: bool


def run(asked: Asked) -> None:
    """Look, ask, show, then do what is missing. Safe to repeat; overwrites no value of yours."""
    checkout = find_project()
    engine = Engine(checkout)
    wish = wished(asked, checkout)
    stacks.require_backend(wish.bucket)
    cloud = connect(wish.project)
    found = look(cloud, wish)
    if not (asked.no_token or wish.token or found.token) and here(asked):
        wish = with_token(wish)
    plan = [*steps(cloud, wish, found, tell), *of_the_desk(engine, checkout, wish, found)]
    if not plan:
        tell(f"Project {wish.project} has all of it already.")
    else:
        agree(wish, plan, asked)
        do(plan)
    tell(f"Next: mayfly quota check {default_profile(checkout)}; pulumi up --stack foundation")


def default_profile(checkout: Project) -> str:
    return str(checkout.config(SHIPPED_SESSION).get("mayfly:profile") or DEFAULT_PROFILE)


def here(asked: Asked) -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and not asked.yes


def wished(asked: Asked, checkout: Project) -> Wish:
    """What is wanted, checked; a prompt for what neither a flag nor a file says."""
    project = asked.project or project_named(asked, checkout)
    if not PROJECT.fullmatch(project):
        raise WrongInputError(
            f"{project!r} is no project id: 6 to 30 lower-case letters, digits and hyphens.",
            NOTHING_DONE,
            "Try: gcloud projects list",
        )
    region = asked.region or stacks.region_set(checkout) or DEFAULT_REGION
    if here(asked) and not asked.region:
        region = typer.prompt("Region of the buckets, the key and the reaper", region, err=True)
    if region not in REGIONS:
        raise WrongInputError(f"--region: {region!r}. {one_of(REGIONS)}", NOTHING_DONE)
    return Wish(
        project=project,
        region=region,
        bucket=bucket_named(asked, checkout, project),
        state_key=key_named(asked, checkout, project, region),
        token=token_from_stdin() if asked.token_from_stdin else "",
        seeding=asked.seeding,
    )


def project_named(asked: Asked, checkout: Project) -> str:
    try:
        known = checkout.google_project()
    except WrongInputError:
        if not here(asked):
            raise
        known = ""
    if not here(asked):
        return known
    return str(typer.prompt("Google Cloud project", known or None, err=True)).strip()


def bucket_named(asked: Asked, checkout: Project, project: str) -> str:
    return asked.bucket or checkout.state_bucket(project)


def key_named(asked: Asked, checkout: Project, project: str, region: str) -> str:
    """The key's full name; "" for a passphrase."""
    if asked.state_key == "none":
        return ""
    written = checkout.config(names.FOUNDATION).get("mayfly:stateKey")
    ours = f"projects/{project}/locations/{region}/keyRings/mayfly/cryptoKeys/state"
    key = asked.state_key or str(written or ours)
    if not KEY.fullmatch(key):
        raise WrongInputError(
            f"--state-key: {key!r}. It must be none, or look like {ours}.", NOTHING_DONE
        )
    return key


def token_from_stdin() -> str:
    """One line; WrongInputError without ever showing what it was."""
    return checked_token(sys.stdin.readline())


def with_token(wish: Wish) -> Wish:
    tell("A model hub's token is needed for gated models only; empty: none.")
    token = getpass.getpass("Hugging Face token (not shown): ")
    return dataclasses.replace(wish, token=checked_token(token)) if token.strip() else wish


def checked_token(text: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise WrongInputError(
            "What was given as the hub's token is empty, or no token (it is not shown here).",
            NOTHING_DONE,
            "Try: mayfly init --hf-token-stdin < FILE",
        )
    return token


def of_the_desk(engine: Engine, checkout: Project, wish: Wish, found: Found) -> list[Step]:
    """Login and stack files."""
    made = []
    if not stacks.logged_in(engine, wish.bucket):
        url = stacks.backend(wish.bucket)
        before = engine.backend()
        told = f"log pulumi in to {url}" + (f" (now: {before})" if before else "")
        made.append(Step(told, lambda: engine.run("login", url)))
    for stack in stacks.stacks(checkout, wish, found):
        line = "; ".join(stack.lines)

        def change(stack: stacks.Stack = stack) -> None:
            stacks.apply(engine, stack, wish)

        made.append(Step(line, change))
    return made


def agree(wish: Wish, plan: list[Step], asked: Asked) -> None:
    """Show all of it; WrongInputError without a yes."""
    tell(f"In project {wish.project}, mayfly init will:")
    for step in plan:
        tell(f"- {step.line}")
    confirm("Do it?", yes=asked.yes, undone=NOTHING_DONE)


def do(plan: list[Step]) -> None:
    """One step after the other. What ends one says what is done and what is not."""
    for number, step in enumerate(plan):
        tell(f"[{number + 1}/{len(plan)}] {step.line}")
        try:
            step.run()
        except KeyboardInterrupt:
            raise stopped(plan, number, "Stopped") from None
        except MayflyError as error:
            if number:
                tell(f"{number} of {len(plan)} steps are done and stay; a second run goes on here.")
            raise error from None


def stopped(plan: list[Step], number: int, how: str) -> FailedError:
    return FailedError(
        f"{how} at: {plan[number].line}.",
        f"{number} of {len(plan)} steps are done and stay (cents a month); no VM was made.",
        "Try: mayfly init   (it goes on where it stopped)",
    )
