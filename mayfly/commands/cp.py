"""`mayfly cp`: files and folders to a session's VM, or from it."""

from dataclasses import dataclass
from pathlib import Path

from mayfly import remote
from mayfly.errors import FailedError, WrongInputError


@dataclass(frozen=True)
class Side:
    """One end. session: None for this machine, "" for the only session there is."""

    session: str | None
    path: str


def run(source: str, target: str) -> None:
    """Copy, folders with all that is in them. FailedError when not all of it arrived."""
    here, there = parse(source), parse(target)
    if (here.session is None) == (there.session is None):
        raise WrongInputError(
            f"cp {source} {target}: one of the two, and not both, is SESSION:PATH.",
            "Nothing was attempted.",
            "Try: mayfly cp results/ dev:results   (or :results for the only session)",
        )
    session = here.session if here.session is not None else there.session
    if here.session is None and not Path(here.path).exists():
        raise WrongInputError(
            f"cp {source}: there is no such file or folder here.", "Nothing was attempted."
        )
    place = remote.find_running(session or "")
    sides = [s.path if s.session is None else f"{place.vm.name}:{s.path}" for s in (here, there)]
    status = remote.run(place.gcloud("scp", "--recurse", *sides))
    if status == remote.LINE_BROKE:
        raise remote.broken(place)
    if status:
        raise FailedError(
            f"Not everything was copied from {source} to {target} (scp's words above).",
            "What had arrived is there; the session runs on until it is idle.",
            "Try: the same command again; it copies everything anew",
        )


def parse(text: str) -> Side:
    """`SESSION:PATH` and `:PATH` are remote; a colon behind a slash belongs to a file's name."""
    session, colon, path = text.partition(":")
    if not colon or "/" in session:
        return Side(None, text)
    return Side(session, path or ".")
