"""The command lines of `init`, `quota` and `capacity`: before the first launch."""

from typing import Annotated

import typer

from mayfly import completion
from mayfly.commands.options import Json
from mayfly.config import DEFAULT_PROFILE

Machine = Annotated[str, typer.Option(help="Machine type; else the profile's first.")]
Profile = Annotated[
    str, typer.Argument(help="A profile's name.", autocompletion=completion.profiles)
]
Region = Annotated[str, typer.Option(help="Only this region; else each that has the machine.")]
Provisioning = Annotated[str, typer.Option(help="spot | flex-start | on-demand")]

app = typer.Typer()
quota_app = typer.Typer(
    help="What Google grants this project, and asking for more.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(quota_app, name="quota")


@app.command()
def init(
    project: Annotated[str, typer.Option(help="Google Cloud project; else asked for.")] = "",
    region: Annotated[str, typer.Option(help="Of buckets, key and reaper; else asked for.")] = "",
    bucket: Annotated[str, typer.Option(help="State bucket; else PROJECT-mayfly-state.")] = "",
    state_key: Annotated[
        str, typer.Option(help="KMS key of the state's secrets; none: a passphrase of yours.")
    ] = "",
    hf_token_stdin: Annotated[
        bool, typer.Option("--hf-token-stdin", help="Read the model hub's token from stdin.")
    ] = False,
    no_hf_token: Annotated[
        bool, typer.Option("--no-hf-token", help="Do not ask for the model hub's token.")
    ] = False,
    seed: Annotated[
        bool, typer.Option("--seed/--no-seed", help="Whether this project seeds weights itself.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Set up a project: state bucket, key, hub token, the reaper's engine, login, stack files."""
    from mayfly.commands import init as command

    asked = command.Asked(
        project=project,
        region=region,
        bucket=bucket,
        state_key=state_key,
        token_from_stdin=hf_token_stdin,
        no_token=no_hf_token,
        seeding=seed,
        yes=yes,
    )
    command.run(asked)


@quota_app.command("list")
def quota_list(as_json: Json = False) -> None:
    """Show the limits on GPUs, Local SSD and vCPUs, and the state of each request."""
    from mayfly.commands import quota as command

    command.show_all(as_json=as_json)


@quota_app.command("check")
def quota_check(
    profile: Profile,
    machine: Machine = "",
    region: Region = "",
    provisioning: Provisioning = "spot",
    as_json: Json = False,
) -> None:
    """Is the quota enough for a profile's VM, and where? Exit 3 if nowhere."""
    from mayfly.commands import quota as command

    wanted = command.Wanted(
        profile=profile, machine=machine, region=region, provisioning=provisioning
    )
    command.check(wanted, as_json=as_json)


@quota_app.command("request")
def quota_request(
    profile: Profile,
    machine: Machine = "",
    region: Region = "",
    provisioning: Provisioning = "spot",
    email: Annotated[str, typer.Option(help="Where Google sends its answer.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Ask Google for what is short; repeat it to see what came of it. Exit 3 until granted."""
    from mayfly.commands import quota as command

    wanted = command.Wanted(
        profile=profile, machine=machine, region=region, provisioning=provisioning
    )
    command.request(wanted, email=email, yes=yes, as_json=as_json)


@app.command()
def capacity(
    profile: Annotated[
        str,
        typer.Argument(
            help=f"A profile's name; else {DEFAULT_PROFILE}.",
            autocompletion=completion.profiles,
        ),
    ] = "",
    machine: Machine = "",
    region: Region = "",
    as_json: Json = False,
) -> None:
    """Where a spot machine is likely to be had now, and at what price."""
    from mayfly.commands import capacity as command

    command.run(profile, machine=machine, region=region, as_json=as_json)
