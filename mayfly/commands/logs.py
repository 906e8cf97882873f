"""`mayfly logs`: a VM's serial console, which works without SSH, and how far it says it is."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from mayfly import idle, names, talk, vms
from mayfly.cloud import Cloud, CloudError
from mayfly.errors import WrongInputError
from mayfly.journal import show_journal
from mayfly.remote import Place, look
from mayfly.spans import parse_span
from mayfly.timeline import Teller

POLL_S = 2.0
LINE_CHARS = 2000
# What syslog puts before a line on the console, in UTC and without a year.
STAMP = re.compile(r"^([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) ")


def run(session: str, *, seed: bool, follow: bool, since: str, journal: bool = False) -> None:
    """Print the console of one VM; with `follow`, until it ends or Ctrl-C. Nothing is changed.

    journal: what its journal has instead, which is more, and needs SSH and OS Login's admin.
    """
    if session:
        vms.check_session_name(session)
    after = since_time(since, time.time())
    project, cloud, there = look(session)
    vm = choose(there, session, names.SEED if seed else names.SESSION, project)
    if journal:
        return show_journal(Place(project, cloud, vm), follow=follow, after=after)
    console = Console(cloud, vm, after)
    try:
        if follow:
            follow_on(cloud, vm, console)
            return None
        console.show()
        last_word(cloud, vm)
    except KeyboardInterrupt:
        return None
    return None


def since_time(text: str, now: float) -> float:
    """Unix seconds of "10m", "2h" ago; 0 for "". WrongInputError for anything else."""
    if not text:
        return 0.0
    span_s = parse_span(text)
    if span_s is None:
        raise WrongInputError(
            f"--since {text}: it must be a number and s, m, h or d.",
            "Nothing was attempted.",
            "Try: mayfly logs --since 10m",
        )
    return now - span_s


def choose(there: list[vms.Vm], session: str, layer: str, project: str) -> vms.Vm:
    """The VM of that name, else the only one of the layer. Raises WrongInputError."""
    found = [vm for vm in there if (vm.session == session if session else vm.layer == layer)]
    if len(found) == 1:
        return found[0]
    others = ", ".join(f"{vm.session} ({vm.layer})" for vm in there) or "none"
    what = f"Which {layer}?" if found else f"No {layer} runs in {project}."
    raise WrongInputError(
        f"No VM of {session!r} in {project}." if session else what,
        f"VMs there: {others}. A console goes with its VM.",
        "Try: mayfly status",
    )


class Console:
    """What a VM's console has printed since `after`, each line once and harmless to a terminal."""

    def __init__(self, cloud: Cloud, vm: vms.Vm, after: float) -> None:
        self._cloud, self._vm, self._after = cloud, vm, after
        self._next = 0
        self._half = ""
        self._late_enough = after == 0

    def show(self, *, whole: bool = True) -> None:
        """Print what is new. whole: also a last line that has no end yet."""
        text, self._next = self._cloud.compute.serial_output(
            self._vm.zone, self._vm.name, self._next
        )
        *lines, self._half = (self._half + text).split("\n")
        if whole and self._half:
            lines, self._half = [*lines, self._half], ""
        for line in self._since(lines):
            print(vms.printable(line, LINE_CHARS), flush=True)

    def _since(self, lines: list[str]) -> Iterator[str]:
        """From the first stamp that is late enough; what has none belongs to the line before."""
        for line in lines:
            if not self._late_enough:
                at = stamp(line, time.time())
                self._late_enough = at is not None and at >= self._after
            if self._late_enough:
                yield line.rstrip("\r")


def stamp(line: str, now: float) -> float | None:
    """Unix seconds of a syslog line, in the year that puts it nearest before now; None without."""
    found = STAMP.match(line)
    if not found:
        return None
    year = datetime.fromtimestamp(now, UTC).year
    for guess in (year, year - 1):
        try:
            said = datetime.strptime(f"{guess} {found[1]}", "%Y %b %d %H:%M:%S")
        except ValueError:
            continue
        at = said.replace(tzinfo=UTC).timestamp()
        if at <= now + 86400:
            return at
    return None


def follow_on(cloud: Cloud, vm: vms.Vm, console: Console) -> None:
    """Print what comes, and tell the VM's own progress beside it, until the VM has ended."""
    teller = Teller(tell)
    trouble = ""
    while True:
        try:
            gone = has_ended(cloud, vm)
            console.show(whole=gone)
            said = {} if gone else vms.claims(cloud, vm) or {}
            trouble = ""
        except CloudError as error:
            if error.status not in (0, 429) and error.status < 500:
                raise
            if str(error) != trouble:
                trouble = str(error)
                tell(f"no answer, asking again: {error}")
            time.sleep(POLL_S)
            continue
        if gone:
            tell(f"{vm.name} has ended.")
            return
        teller.tell(said.get("timeline", ""), vms.printable(said.get("message", "")))
        time.sleep(POLL_S)


def has_ended(cloud: Cloud, vm: vms.Vm) -> bool:
    """Whether it is gone, or runs no more."""
    instance = cloud.compute.instance(vm.zone, vm.id)
    return instance is None or instance.get("status") in idle.GONE


def last_word(cloud: Cloud, vm: vms.Vm) -> None:
    """The phase and message that the VM claims now."""
    said = vms.claims(cloud, vm) or {}
    phase, message = (vms.printable(said.get(key, "")) for key in ("phase", "message"))
    tell(": ".join(word for word in (vm.session, phase or "booting", message) if word))


def tell(line: str) -> None:
    """Beside the console's own text, which alone goes to stdout."""
    talk.tell(f"== {line}")
