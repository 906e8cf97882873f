"""`python -m local`: a local cloud to play with by hand or to run tests and the demo on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local import lifecycle
from local.cloud import Options
from local.exports import ROOT, shell
from local.lifecycle import LifecycleError
from local.rest.settings import DEFAULTS, SettingError, changed

DEFAULT_DIR = ROOT / ".mayfly" / "local"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong input."""
    args = parser().parse_args(argv)
    try:
        return act(args)
    except LifecycleError as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130


def act(args: argparse.Namespace) -> int:
    directory = args.dir.absolute()
    if args.command == "down":
        print(lifecycle.down(directory))
        return 0
    settings = parsed_settings(args.setting)
    if args.command == "serve":
        options = Options(
            directory=directory, plugins=args.provider == "stand-in", settings=settings
        )
        lifecycle.serve(options, detached=args.detached)
        return 0
    if lifecycle.running(directory):
        print(f"A local cloud already runs in {directory}; these are its exports.", file=sys.stderr)
    given = [part for pair in args.setting for part in ("--setting", pair)]
    found = lifecycle.up(directory, ["--provider", args.provider, *given])
    print(shell(found["exports"]), end="")
    return 0


def parsed_settings(pairs: Sequence[str]) -> dict[str, str]:
    """name=value pairs that the local cloud knows; LifecycleError otherwise."""
    settings = dict(pair.partition("=")[::2] for pair in pairs)
    wrong = [pair for pair in pairs if "=" not in pair]
    try:
        if wrong:
            raise SettingError(f"{wrong[0]!r} is not name=value")
        changed(DEFAULTS, settings)
    except SettingError as error:
        raise LifecycleError(f"{error}\nNothing was started.", 2) from error
    return settings


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "start in the background and print the exports"),
        ("serve", "run in the foreground until the parent ends"),
        ("down", "end it and remove its directory"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dir", type=Path, default=DEFAULT_DIR)
        if name == "down":
            continue
        command.add_argument("--provider", choices=("stand-in", "real"), default="stand-in")
        command.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
        if name == "serve":
            command.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    return top


if __name__ == "__main__":
    sys.exit(main())
