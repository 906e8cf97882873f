"""The command lines of `bench`: measure a session, compare two results, show them."""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from mayfly import completion
from mayfly.break_even import API_USD_IN, API_USD_OUT
from mayfly.commands.options import Json, Words

File = Annotated[Path, typer.Argument(show_default=False)]


class Measuring(typer.core.TyperGroup):
    """`bench dev` measures session dev: what is no other verb is the arguments of the first."""

    default = "run"

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Measuring,
    help="Test and measure a session's endpoint; compare results, make reports of them.",
    rich_markup_mode=None,
)


@app.command("run", cls=Words)
def bench(
    context: typer.Context,
    session: Annotated[
        str,
        typer.Argument(
            help="May be left out if there is only one.", autocompletion=completion.sessions
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Keep the result as JSON there.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Make a page of it there.", show_default=False)
    ] = None,
    port: Annotated[str, typer.Option(help="Local port; else the next free one.")] = "",
    as_json: Json = False,
) -> None:
    """Test and measure a session, over a tunnel of its own: mayfly bench [SESSION] -- FLAGS.
    The flags are bench/benchmark.py's, e.g. --concurrent 1,2,8,32. `run` may be left out."""
    from mayfly.commands import bench as command

    words = context.meta["words"]
    wanted = command.Wanted(session=session, port=port, words=words, out=out, report=report)
    raise typer.Exit(command.run(wanted, as_json=as_json))


@app.command()
def compare(a: File, b: File, as_json: Json = False) -> None:
    """Say which of two results is better beyond noise. Exit 2: they are not of the same load."""
    from mayfly.commands import bench as command

    words = [str(a), str(b), *(["--json"] if as_json else [])]
    raise typer.Exit(command.program("compare.py", words))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(show_default=False)],
    out: Annotated[Path, typer.Option(help="The HTML file.", show_default=False)],
    png: Annotated[
        Path | None, typer.Option(help="A folder for each picture as PNG.", show_default=False)
    ] = None,
    api_in: Annotated[float, typer.Option(help="The API's USD for a million, read.")] = API_USD_IN,
    api_out: Annotated[
        float, typer.Option(help="The API's USD for a million, written.")
    ] = API_USD_OUT,
) -> None:
    """Make one page of any number of results, with its pictures in it."""
    from mayfly.commands import bench as command

    words = [*map(str, results), "--out", str(out), "--api-in", str(api_in)]
    words += ["--api-out", str(api_out), *(["--png", str(png)] if png else [])]
    raise typer.Exit(command.program("report.py", words))
