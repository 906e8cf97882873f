"""Options that many commands take."""

from typing import Annotated

import typer
import typer.core

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class Words(typer.core.TyperCommand):
    """A command with somebody else's words after `--`, which typer would mix with its own."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["words"] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])
