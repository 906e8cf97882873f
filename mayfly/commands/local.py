"""`mayfly local up/down`: the local cloud, as a process of its own."""

import subprocess
import sys
from pathlib import Path

import typer

from mayfly.errors import WrongInputError
from mayfly.project import CHECKOUT

PROVIDERS = ("stand-in", "real")
CAPACITY = "capacity"


def up(provider: str, settings: list[str]) -> None:
    """Start it; its exports, and nothing else, go to stdout."""
    if provider not in PROVIDERS:
        raise WrongInputError(
            f"--provider {provider}: valid are {', '.join(PROVIDERS)}.", "Nothing was started."
        )
    wrong = [s for s in settings if "=" not in s.strip("=")]
    if wrong:
        raise WrongInputError(
            f"--setting {wrong[0]}: it must be KEY=VALUE.",
            "Nothing was started.",
            "Try: mayfly local up --setting driver=570.195.03",
        )
    words = [word for setting in settings for word in ("--setting", located(setting))]
    call("up", "--provider", provider, *words)


def located(setting: str) -> str:
    """A setting that names a file, in full: the local cloud starts in a folder of its own."""
    key, _, value = setting.partition("=")
    is_file = key == CAPACITY and Path(value).is_file()
    return f"{key}={Path(value).absolute()}" if is_file else setting


def down() -> None:
    """Stop it; stopping what does not run is fine."""
    call("down")


def need_local_cloud() -> None:
    """Raises WrongInputError where this mayfly is not a checkout."""
    if not (CHECKOUT / "local" / "__main__.py").is_file():
        raise WrongInputError(
            f"There is no local cloud in {CHECKOUT}.",
            "It comes with the repository, not with the installed package.",
            "Try: git clone the repository, then `make demo` in it",
        )


def call(*words: str) -> None:
    """Run the local cloud's own command; its exit code becomes ours."""
    need_local_cloud()
    command = [sys.executable, "-m", "local", *words]
    status = subprocess.run(command, cwd=CHECKOUT, check=False).returncode
    if status:
        raise typer.Exit(status if status > 0 else 1)
