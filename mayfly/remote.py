"""The way onto a session's VM: gcloud's own ssh and scp, through IAP. It has no other address."""

import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mayfly import idle, names, vms
from mayfly.cloud import Cloud, CloudError, connect
from mayfly.errors import FailedError, WrongInputError
from mayfly.project import find_project

LINE_BROKE = 255
"""What ssh ends with when the line, not the remote command, failed."""


class LineError(FailedError):
    """There was no line to the VM, or it broke; 255, as ssh says it: no command's own status."""

    exit_code = LINE_BROKE


@dataclass(frozen=True)
class Place:
    """A session's VM and the project that it is in."""

    project: str
    cloud: Cloud
    vm: vms.Vm

    def gcloud(self, verb: str, *words: str) -> list[str]:
        """gcloud's words; `words` come before those that say where the VM is."""
        there = ("--zone", self.vm.zone, "--project", self.project)
        return ["gcloud", "compute", verb, *words, *there, "--tunnel-through-iap", "--quiet"]

    def command(self, line: str) -> list[str]:
        """gcloud's words for one line of the remote shell."""
        return self.gcloud("ssh", self.vm.name, f"--command={line}")


def find(session: str) -> Place:
    """The session's VM; without a name the only one. WrongInputError names those there are."""
    project, cloud, there = look(session)
    sessions = [vm for vm in there if vm.layer == names.SESSION]
    return Place(project, cloud, vms.pick(sessions, session, project))


def find_any(session: str) -> Place:
    """The session's VM or the seed's, by its name; without a name the only session's."""
    project, cloud, there = look(session)
    if not session:
        there = [vm for vm in there if vm.layer == names.SESSION]
    return Place(project, cloud, vms.pick(there, session, project))


def look(session: str) -> tuple[str, Cloud, list[vms.Vm]]:
    """The project, its cloud, and all VMs of ours; what cannot be known is told of this session."""
    if session:
        vms.check_session_name(session)
    where = f"Session {session!r}: " if session else ""
    try:
        checkout = find_project()
        project = checkout.google_project()
    except WrongInputError as error:
        raise WrongInputError(where + error.what, error.meaning, error.remedy) from error
    cloud = connect(project)
    try:
        return project, cloud, vms.all_of_ours(cloud)
    except CloudError as error:
        if session and session not in checkout.stacks():
            raise WrongInputError(
                f"{where}not in this checkout, and Google does not say which others there are.",
                f"{error.message}. Nothing was attempted.",
                error.remedy or "Try: mayfly status",
            ) from error
        raise


def find_running(session: str) -> Place:
    """`find`, for what needs sshd. FailedError where the VM is on its way up or down."""
    check_gcloud()
    place = find(session)
    check_running(place.vm)
    return place


def check_running(vm: vms.Vm) -> None:
    """FailedError where the VM is on its way up or down."""
    if vm.status != "RUNNING":
        ending = vm.status in idle.GONE
        raise FailedError(
            f"Session {vm.session} is {'going' if ending else 'not up yet'}: "
            f"Compute says {vm.status}.",
            "Its GPUs are billed no more; its disk is until the reaper has removed it."
            if ending
            else "Nothing was attempted; it is billed from when it runs.",
            "Try: mayfly status",
        )


def check_gcloud() -> None:
    """WrongInputError where there is none."""
    if shutil.which("gcloud") is None:
        raise WrongInputError(
            "There is no gcloud on PATH.",
            "Only gcloud opens the way to a VM without an address; nothing was attempted.",
            "See https://cloud.google.com/sdk/docs/install",
        )


def run(words: Sequence[str]) -> int:
    """gcloud's exit status. Our terminal, input and output are its own, and so is Ctrl-C."""
    with subprocess.Popen(words) as process:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return _status(process.wait())
        finally:
            signal.signal(signal.SIGINT, before)


def _status(code: int) -> int:
    """As a shell says it: 128 and the signal."""
    return code if code >= 0 else 128 - code


def broken(place: Place) -> LineError:
    """Status 255: gcloud's and ssh's words are above."""
    vm = place.vm
    return LineError(
        f"There was no line to {vm.name}, or it broke (gcloud's words above).",
        "The session is unchanged: it costs money until it is idle.",
        f"Try: gcloud compute ssh {vm.name} --zone {vm.zone} --project {place.project} "
        "--tunnel-through-iap --troubleshoot",
    )


def shell_line(words: Sequence[str]) -> str:
    """One line that the remote shell reads back as exactly these words."""
    return shlex.join(words)
