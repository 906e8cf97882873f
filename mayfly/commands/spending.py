"""The command line of `cost`: what was spent, and from how much use on it is worth it."""

from typing import Annotated

import typer

from mayfly import completion
from mayfly.break_even import API_USD_IN, API_USD_OUT
from mayfly.commands.options import Json
from mayfly.config import DEFAULT_PROFILE

Place = Annotated[str, typer.Option(help="With --break-even; else the profile's first.")]

app = typer.Typer()


@app.command()
def cost(
    month: Annotated[str, typer.Option(help="Only VMs that began in it, e.g. 2026-11.")] = "",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line a VM.")] = False,
    break_even: Annotated[
        bool, typer.Option("--break-even", help="Instead: when an API would be dearer.")
    ] = False,
    profile: Annotated[
        str, typer.Option(help="With --break-even.", autocompletion=completion.profiles)
    ] = DEFAULT_PROFILE,
    machine: Place = "",
    zone: Place = "",
    provisioning: Annotated[str, typer.Option(help="spot | flex-start | on-demand")] = "spot",
    api_in: Annotated[float, typer.Option(help="The API's USD for a million, read.")] = API_USD_IN,
    api_out: Annotated[
        float, typer.Option(help="The API's USD for a million, written.")
    ] = API_USD_OUT,
) -> None:
    """Show what every VM that is gone has cost: by session, user, profile and month."""
    if break_even:
        from mayfly.commands import break_even as compare

        wanted = compare.Wanted(
            profile=profile,
            machine=machine,
            zone=zone,
            provisioning=provisioning,
            usd_in=api_in,
            usd_out=api_out,
        )
        compare.run(wanted, as_json=as_json, as_csv=as_csv, month=month)
        return
    from mayfly.commands import cost as command

    command.run(as_json=as_json, as_csv=as_csv, month=month)
