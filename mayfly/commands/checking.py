"""The command line of `doctor`."""

from typing import Annotated

import typer

from mayfly.commands.options import Json

app = typer.Typer()


@app.command()
def doctor(
    log: Annotated[
        str,
        typer.Option(metavar="FILE", show_default=False, help="Read a log instead; - is stdin."),
    ] = "",
    profile: Annotated[
        str, typer.Option(show_default=False, help="The one that is meant; else as configured.")
    ] = "",
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what is safe to mend, after asking.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong, what it means and what to paste. Exit 3 where something is."""
    from mayfly.commands import doctor as command

    if log:
        command.read(log, as_json=as_json)
    else:
        command.run(profile, fix=fix, yes=yes, as_json=as_json)
