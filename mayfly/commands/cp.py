"""`mayfly cp`: files and folders to a session's VM, or from it."""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mayfly import remote
from mayfly import resume as resumes
from mayfly.errors import FailedError, WrongInputError
from mayfly.talk import tell


@dataclass(frozen=True)
class Side:
    """One end. session: None for this machine, "" for the only session there is."""

    session: str | None
    path: str


def run(source: str, target: str, *, resume: bool = False) -> None:
    """Copy, folders with all that is in them. FailedError when not all of it arrived.

    resume: go on where an earlier copy ended. Then a target without "/" at its end is the copy
    itself, also where it is a folder that is there.
    """
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
    if resume:
        return go_on(place, here, there)
    sides = [s.path if s.session is None else f"{place.vm.name}:{s.path}" for s in (here, there)]
    status = remote.run(place.gcloud("scp", "--recurse", *sides))
    if status == remote.LINE_BROKE:
        raise remote.broken(place)
    if status:
        raise FailedError(
            f"Not everything was copied from {source} to {target} (scp's words above).",
            "What had arrived is there; the session runs on until it is idle.",
            "Try: the same command again, which copies all of it anew; or with --resume",
        )
    return None


def go_on(place: remote.Place, here: Side, there: Side) -> None:
    """The copy over one pipe: python3 on the VM is the far end, we are the near one."""
    sending = here.session is None
    near, far = (here, there) if sending else (there, here)
    script = Path(resumes.__file__).read_text()
    role = "receive" if sending else "send"
    words = place.command(remote.shell_line(["python3", "-c", script, role, far.path]))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        why = ""
        try:
            if sending:
                told = resumes.send(near.path, process.stdout, process.stdin)
                tell(summary(told))
            else:
                resumes.receive(near.path, process.stdout, process.stdin)
        except (OSError, ValueError, resumes.BrokenError) as error:
            why = str(error)
        for pipe in (process.stdin, process.stdout):  # or the far end waits for us, and we for it
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        status = process.wait()
    if status == remote.LINE_BROKE:
        raise remote.broken(place)
    if status or why:
        raise FailedError(
            f"Not everything was copied: {why or 'the reason is above'}.",
            "What had arrived is there; the session runs on until it is idle.",
            "Try: the same command again; it goes on where this one ended",
        )


def summary(told: dict[str, int]) -> str:
    return (
        f"{told['files']} files: {told['whole']} were there, {told['continued']} continued, "
        f"{told['bytes'] / 1e6:,.1f} MB sent"
    )


def parse(text: str) -> Side:
    """`SESSION:PATH` and `:PATH` are remote; a colon behind a slash belongs to a file's name."""
    session, colon, path = text.partition(":")
    if not colon or "/" in session:
        return Side(None, text)
    return Side(session, path or ".")
