"""The command line of `doctor`."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def doctor(
    log: Annotated[
        str, typer.Option(metavar="FILE", help="Read a pasted log instead; - is stdin.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Say what is wrong, what it means and what to paste. Exit 3 where something is."""
    from mayfly.commands import doctor as command

    command.read(log, as_json=as_json)
