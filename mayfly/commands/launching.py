"""The command line of `up`: what is asked for, and how long and how dear it may be."""

from typing import Annotated

import typer

from mayfly import completion
from mayfly.commands.options import Json
from mayfly.config import SHIPPED_SESSION

Commas = Annotated[str, typer.Option(show_default=False, help="With commas; else all.")]
Usd = Annotated[float | None, typer.Option(show_default=False, help="USD; else no limit.")]

app = typer.Typer()


@app.command()
def up(
    profile: Annotated[
        str,
        typer.Argument(
            help="Else the one that the stack names.", autocompletion=completion.profiles
        ),
    ] = "",
    session: Annotated[str, typer.Option(help="Name of the session's stack.")] = SHIPPED_SESSION,
    mode: Annotated[str, typer.Option(help="fast | long; else as configured.")] = "",
    machine: Commas = "",
    zone: Commas = "",
    region: Annotated[str, typer.Option(help="With commas; else the foundation's.")] = "",
    provisioning: Annotated[str, typer.Option(help="Of spot,flex-start,on-demand.")] = "",
    hours: Annotated[float | None, typer.Option(help="Longest life; else as configured.")] = None,
    budget: Usd = None,
    max_hourly: Usd = None,
    retry_for: Annotated[str, typer.Option(help="Go on asking, e.g. 2h or 30m.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Bring it up again when Google takes its VM.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show where and why.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a session up wherever there is room, the cheapest place first."""
    from mayfly.commands import up as command
    from mayfly.commands.up_wanted import Wanted

    wanted = Wanted(
        profile=profile,
        session=session,
        mode=mode,
        machine=machine,
        zone=zone,
        region=region,
        provisioning=provisioning,
        hours=hours,
        budget=budget,
        max_hourly=max_hourly,
        retry_for=retry_for,
        watch=watch,
    )
    command.run(wanted, dry_run=dry_run, yes=yes, as_json=as_json)
