"""`mayfly ssh-config`: a Host entry by which editors (VS Code Remote) reach a session's VM."""

import shlex
import subprocess

from mayfly import remote, ssh_config, vms
from mayfly.errors import FailedError, WrongInputError
from mayfly.talk import confirm, tell

ANSWER_S = 60.0


def run(session: str, *, remove: bool, yes: bool) -> None:
    """Write the entry, after asking where ~/.ssh/config is changed; or take it away."""
    if remove:
        return take_away(session)
    place = remote.find_running(session)
    name = place.vm.session
    text = ssh_config.entry(name, command_line(place))
    if not ssh_config.included():
        ask(text, yes)
    path = ssh_config.write(name, text)
    print(ssh_config.alias(name), flush=True)
    tell(f"Written to {path}; `mayfly down {name}` removes it.")
    tell(f"Try: ssh {ssh_config.alias(name)}   (or VS Code: Remote-SSH, Connect to Host)")
    tell("An editor that is left open does not keep the session; `mayfly keep` does.")
    return None


def take_away(session: str) -> None:
    """Google is not asked: the session may be long gone."""
    if not session:
        raise WrongInputError(
            "Whose entry? Name the session.",
            "Nothing was removed.",
            "Try: mayfly ssh-config SESSION --remove",
        )
    vms.check_session_name(session)
    if ssh_config.remove(session):
        tell(f"Removed {ssh_config.entry_path(session)}.")
    else:
        tell(f"There is no entry for {session}; nothing to remove.")


def command_line(place: remote.Place) -> list[str]:
    """The ssh command that gcloud would run; its key is made and known to OS Login then."""
    words = place.gcloud("ssh", place.vm.name, "--dry-run")
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=ANSWER_S
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(
            f"gcloud did not say within {ANSWER_S:.0f} s how it would go in.",
            "Nothing was written.",
            f"Try: {shlex.join(words)}",
        ) from error
    if done.returncode:
        raise FailedError(
            f"gcloud ended with status {done.returncode} (its words above).",
            "Nothing was written.",
            f"Try: {shlex.join(words)}",
        )
    return shlex.split(done.stdout)


def ask(text: str, yes: bool) -> None:
    """Show the entry, and ask unless told not to."""
    if not yes:
        tell(f"{text}\nTo be included from ~/.ssh/config by: {ssh_config.INCLUDE.strip()}")
    confirm("Write it?", yes=yes, undone="Nothing was written.", what="a line in ~/.ssh/config")
