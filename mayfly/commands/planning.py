"""The command lines of `plan`, `profile` and `probe`: what is asked before money is spent."""

from typing import Annotated

import typer

from mayfly import completion
from mayfly.commands.options import Json

Machine = Annotated[str, typer.Option(help="Machine type; else the profile's first.")]
ModeName = Annotated[str, typer.Option(help="fast | long; else fast.")]
Profile = Annotated[
    str,
    typer.Argument(
        help="A profile's name; left out: a list of them.", autocompletion=completion.profiles
    ),
]
Wished = Annotated[int, typer.Option(min=0, show_default=False, help="Else the profile's wish.")]
Fixed = Annotated[int, typer.Option(min=0, show_default=False, help="Else the planner's choice.")]
Nodes = Annotated[int, typer.Option(min=1, max=8, help="Machines that serve the model together.")]
Limit = Annotated[float, typer.Option(min=0, show_default=False, help="Else as configured.")]

app = typer.Typer()
profile_app = typer.Typer(
    help="Make a profile of a hub model; check those that there are.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(profile_app, name="profile")


@app.command()
def plan(
    profile: Profile = "",
    machine: Machine = "",
    nodes: Nodes = 1,
    mode: ModeName = "",
    context: Wished = 0,
    concurrency: Wished = 0,
    tp: Fixed = 0,
    dcp: Fixed = 0,
    kv: Annotated[str, typer.Option(help="Type of the KV cache: auto | bf16 | fp8.")] = "auto",
    zone: Annotated[str, typer.Option(help="Zone whose rate is taken; else the first.")] = "",
    provisioning: Annotated[str, typer.Option(help="spot | flex-start | on-demand")] = "spot",
    hours: Limit = 0,
    budget: Limit = 0,
    checkpoint: Annotated[
        str, typer.Option(help="Folder or gs:// of the weights: exact sizes.")
    ] = "",
    live: Annotated[bool, typer.Option("--live", help="Ask Google for the price now.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All profiles, all machines.")] = False,
    as_json: Json = False,
) -> None:
    """Will it fit, with which flags, at what price: before any money is spent."""
    from mayfly.commands import plan as command
    from mayfly.commands import plan_all

    if everything:
        return plan_all.run(as_json=as_json)
    wanted = command.Wanted(
        profile=profile,
        machine=machine,
        nodes=nodes,
        mode=mode,
        context=context,
        concurrency=concurrency,
        tp=tp,
        dcp=dcp,
        kv=kv,
        zone=zone,
        provisioning=provisioning,
        hours=hours,
        budget=budget,
        checkpoint=checkpoint,
        live=live,
    )
    return command.run(wanted, as_json=as_json)


@profile_app.command("new")
def profile_new(
    model: Annotated[str, typer.Argument(help="A hub id, organisation/name.")],
    name: Annotated[str, typer.Option(help="Else the model's name as a slug.")] = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the hub.")] = "main",
) -> None:
    """Write a profile from what the hub says of a model."""
    from mayfly.commands import profile as command

    command.new(model, name=name, revision=revision)


@profile_app.command("check")
def profile_check(as_json: Json = False) -> None:
    """Check every profile: schema, config, flags, sizes, and that it fits where it is offered."""
    from mayfly.commands import profile as command

    command.check(as_json=as_json)


@app.command()
def probe(
    profile: Annotated[
        str,
        typer.Argument(
            help="The profile whose rank is measured.", autocompletion=completion.profiles
        ),
    ],
    machine: Machine = "",
    mode: Annotated[str, typer.Option(help="Whose settings to take: fast | long.")] = "fast",
    batches: Annotated[str, typer.Option(help="Requests at a time to measure.")] = "1,8,64",
    python: Annotated[str, typer.Option(help="An interpreter with vLLM; else this one.")] = "",
    out: Annotated[str, typer.Option(help="Folder for the engine's log.")] = ".mayfly/probe",
    limit_s: Annotated[float, typer.Option(min=1, help="Seconds until it is ended.")] = 600,
    cloud: Annotated[
        bool, typer.Option("--cloud", help="On a rented VM with one GPU, which ends itself.")
    ] = False,
    session: Annotated[str, typer.Option(help="With --cloud: name of its stack.")] = "probe",
    zone: Annotated[str, typer.Option(help="With --cloud: zones, with commas; else all.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --cloud: do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Measure one rank of a model on the GPU at hand, or a rented one, before eight are rented."""
    from mayfly.commands import probe as command

    wanted = command.Wanted(
        profile=profile,
        machine=machine,
        mode=mode,
        batches=batches,
        python=python,
        out=out,
        limit_s=limit_s,
        cloud=cloud,
        session=session,
        zone=zone,
        yes=yes,
    )
    command.run(wanted, as_json=as_json)
