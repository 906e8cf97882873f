"""The `mayfly` command: parses, calls one command module, and turns every error into an exit code.

0 done, 1 failed, 2 wrong input and nothing attempted, 3 "no" (no capacity or quota, does not fit).
Command modules are imported when they are called: `mayfly --help` must not wait for Google's.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from mayfly import completion
from mayfly.commands import benching, checking, launching, planning, preparing, spending
from mayfly.commands.options import Json, Words
from mayfly.errors import explained

Session = Annotated[
    str,
    typer.Argument(
        help="Session name; may be left out if there is only one.",
        autocompletion=completion.sessions,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--setting", metavar="KEY=VALUE", help="A setting of the local cloud."),
]

app = typer.Typer(
    name="mayfly",
    help="A private LLM endpoint on spot GPUs in your own Google Cloud project.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing rich for it takes three times as long
    pretty_exceptions_enable=False,
)
local_app = typer.Typer(
    help="A local cloud to try everything on, without an account.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(local_app, name="local")
app.add_typer(benching.app, name="bench")
app.add_typer(planning.app)
app.add_typer(preparing.app)
app.add_typer(launching.app)
app.add_typer(checking.app)
app.add_typer(spending.app)


@app.command()
def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Leave out the second session.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Make a page of the benchmark there.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the whole story on the local cloud: weights, endpoint, benchmark, gone."""
    from mayfly.commands import demo as command

    command.run(fast=fast, report=report, as_json=as_json)


@local_app.command("up")
def local_up(
    provider: Annotated[str, typer.Option(help="stand-in | real (your plugins)")] = "stand-in",
    setting: Settings = None,
) -> None:
    """Start a local cloud and print the exports that a shell needs."""
    from mayfly.commands import local as command

    command.up(provider, setting or [])


@local_app.command("down")
def local_down() -> None:
    """Stop the local cloud and forget everything in it."""
    from mayfly.commands import local as command

    command.down()


@app.command()
def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every session: phase, speed, when it ends by itself, and what it costs."""
    from mayfly.commands import status as command

    command.run(as_json=as_json, watch=watch)


@app.command()
def logs(
    session: Session = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    seed: Annotated[
        bool, typer.Option("--seed", help="The seeding VM's, not a session's.")
    ] = False,
    since: Annotated[str, typer.Option(help="Only what is newer, e.g. 10m or 2h.")] = "",
    journal: Annotated[
        bool, typer.Option("--journal", help="The whole journal instead, over SSH.")
    ] = False,
) -> None:
    """Show a VM's serial console and how far it is; works without SSH."""
    from mayfly.commands import logs as command

    command.run(session, seed=seed, follow=follow, since=since, journal=journal)


@app.command()
def connect(
    session: Session = "",
    port: Annotated[str, typer.Option(help="Local port; else the next free one.")] = "",
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the API key too.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a session's endpoint to this machine, until Ctrl-C."""
    from mayfly.commands import connect as command

    command.run(session, port=port, show_key=show_key, as_json=as_json)


@app.command()
def dashboard(
    port: Annotated[str, typer.Option(help="Port; else the next free one.")] = "",
) -> None:
    """Serve a page on this machine: sessions, money, keep and down, a chat. Until Ctrl-C."""
    from mayfly.commands import dashboard as command

    command.run(port=port)


@app.command()
def keep(
    span: Annotated[str, typer.Argument(help="How long from now, e.g. 90m or 2h.")] = "",
    session: Session = "",
    release: Annotated[bool, typer.Option("--release", help="Give it back now.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a session though it is idle, within its deadline and budget."""
    from mayfly.commands import keep as command

    command.run(span, session, release=release, as_json=as_json)


@app.command("idle")
def idle_(session: Session = "", as_json: Json = False) -> None:
    """Say why a session is or is not idle, and when it ends."""
    from mayfly.commands import idle as command

    command.run(session, as_json=as_json)


@app.command(cls=Words)
def ssh(context: typer.Context, session: Session = "") -> None:
    """Log in to a session's VM, through IAP. What follows `--` goes to ssh."""
    from mayfly.commands import ssh as command

    raise typer.Exit(command.shell(session, context.meta["words"]))


@app.command("exec", cls=Words)
def execute(context: typer.Context, session: Session = "") -> None:
    """Run one command on a session's VM: mayfly exec [SESSION] -- CMD. Its exit status is ours."""
    from mayfly.commands import ssh as command

    raise typer.Exit(command.execute(session, context.meta["words"]))


@app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A path, or SESSION:PATH.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A path, or SESSION:PATH.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier copy ended.")
    ] = False,
) -> None:
    """Copy files and folders to a session's VM or from it; :PATH is the only session's."""
    from mayfly.commands import cp as command

    command.run(source, target, resume=resume)


@app.command("ssh-config")
def ssh_config(
    session: Session = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the entry away.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Write a Host entry, mayfly-SESSION, for VS Code Remote and plain ssh."""
    from mayfly.commands import ssh_config as command

    command.run(session, remove=remove, yes=yes)


@app.command()
def down(
    session: Session = "",
    all_sessions: Annotated[bool, typer.Option("--all", help="Every session and seed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Destroy a session now and say what it cost."""
    from mayfly.commands import down as command

    command.run(session, all_sessions=all_sessions, yes=yes)


@app.command()
def seed(
    profile: Annotated[
        str,
        typer.Argument(help="Profile whose weights to fetch.", autocompletion=completion.profiles),
    ],
    stack: Annotated[str, typer.Option(help="Stack of the seeding VM.")] = "seed",
) -> None:
    """Bring a model's weights into the bucket, with a machine that ends itself."""
    from mayfly.commands import seed as command

    command.run(profile, stack=stack)


FLAGS = {"help": False, "install_completion": False, "show_completion": False}
"""typer's own. Without a value it asks pydantic, which takes a tenth of a second to load."""


def defaults(command: Any) -> dict[str, Any]:
    """A value for each of FLAGS, in a group of commands and in all below it."""
    below = getattr(command, "commands", {})
    return FLAGS | {name: defaults(each) for name, each in below.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never a traceback, never 0 after a failure."""
    try:
        command = typer.main.get_command(app)
        words = None if arguments is None else list(arguments)
        command(words, prog_name="mayfly", default_map=defaults(command))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except Exception as error:
        if os.environ.get("MAYFLY_DEBUG"):
            raise
        told = explained(error)
        print(told, file=sys.stderr)
        return told.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
