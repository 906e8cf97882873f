"""A VM's journal, read over SSH: what the serial console leaves out."""

import subprocess
import tempfile

from mayfly import remote, vms
from mayfly.errors import FailedError
from mayfly.talk import tell

LINE_CHARS = 2000
NO_ROOT = "a password is required"


def show_journal(place: remote.Place, *, follow: bool, after: float) -> None:
    """Print it, harmless to a terminal; with `follow` until Ctrl-C. after: Unix seconds."""
    remote.check_gcloud()
    remote.check_running(place.vm)
    words = ["sudo", "-n", "journalctl", "--no-pager", "-o", "short-iso"]
    words += [f"--since=@{after:.0f}"] if after else []
    words += ["-n", "all", "-f"] if follow else []
    with tempfile.TemporaryFile("w+") as said:
        status = stream(place.command(remote.shell_line(words)), said.fileno())
        said.seek(0)
        complaint = said.read()
    if status == 0:
        return
    if NO_ROOT in complaint:
        raise FailedError(
            f"The journal of {place.vm.name} is root's, and you may log in but not become root.",
            "The session is unchanged; the console (mayfly logs) needs no SSH.",
            f"Try: gcloud projects add-iam-policy-binding {place.project} "
            "--member user:YOU --role roles/compute.osAdminLogin",
        )
    for line in complaint.splitlines():
        tell(vms.printable(line, LINE_CHARS))
    raise remote.broken(place)


def stream(words: list[str], errors: int) -> int:
    """Its lines as they come; the status, 0 where Ctrl-C ended it."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(vms.printable(line, LINE_CHARS), flush=True)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            return 0
        return process.wait()
