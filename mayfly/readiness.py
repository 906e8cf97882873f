"""`python -m mayfly.readiness`: wait until a VM has reached a phase, telling what it does.

The component's command runs it; docs/architecture.md lists the environment. Progress goes to
stderr, which the engine shows; stdout is one word, because the engine stores it.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mayfly import idle, names, vms
from mayfly.cloud import Cloud, CloudError, connect
from mayfly.errors import FailedError, MayflyError, WrongInputError
from mayfly.talk import tell
from mayfly.timeline import Teller

READY_PHASES = ("serving", "seeded", "probed")
FAST_POLL_S, SLOW_POLL_S = 1.0, 3.0
FAST_FOR_S = 120
SERIAL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which VM, and what it must reach within start_s seconds from now."""

    project: str
    zone: str
    vm: str
    vm_id: str
    phase: str
    start_s: float


def wanted(environ: Mapping[str, str]) -> Wanted:
    """What the environment asks for. Raises WrongInputError with every problem."""
    keys = ("PROJECT", "ZONE", "VM", "VM_ID", "READY_PHASE", "START_S")
    values = {key: environ.get(f"MAYFLY_{key}", "") for key in keys}
    problems = [f"MAYFLY_{key} is not set" for key, value in values.items() if not value]
    if values["READY_PHASE"] and values["READY_PHASE"] not in READY_PHASES:
        problems.append(f"MAYFLY_READY_PHASE: {values['READY_PHASE']!r} is none of {READY_PHASES}")
    try:
        start_s = float(values["START_S"] or 1)
    except ValueError:
        start_s = -1
    if not 0 < start_s < float("inf"):
        problems.append(f"MAYFLY_START_S: {values['START_S']!r} is not a number above 0")
    if problems:
        raise WrongInputError("; ".join(problems), "Nothing was attempted.")
    return Wanted(
        project=values["PROJECT"],
        zone=values["ZONE"],
        vm=values["VM"],
        vm_id=values["VM_ID"],
        phase=values["READY_PHASE"],
        start_s=start_s,
    )


class Watch:
    """Looks at one VM until it is ready, or surely will not be."""

    def __init__(self, cloud: Cloud, want: Wanted, tell: Callable[[str], None]) -> None:
        self._cloud, self._want, self._tell = cloud, want, tell
        self._teller = Teller(tell)
        self._phase = ""
        self._message = ""
        self._trouble = ""

    def wait(self) -> None:
        """Return when the phase is reached. FailedError with the reason, after the last lines."""
        start = time.monotonic()
        while True:
            waited_s = time.monotonic() - start
            if self._look():
                self._teller.tell_message(self._message)  # what it serves, or what is complete
                return
            if waited_s > self._want.start_s:
                raise self._failure(f"is still {self._phase or 'booting'} after {waited_s:.0f} s")
            time.sleep(FAST_POLL_S if waited_s < FAST_FOR_S else SLOW_POLL_S)

    def _look(self) -> bool:
        """One look: True when ready. What Google cannot answer now is told once and asked again."""
        try:
            found = self._observe()
        except CloudError as error:
            if error.status not in (0, 429) and error.status < 500:
                raise
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._tell(f"no answer, asking again: {error}")
            return False
        self._trouble = ""
        return found

    def _observe(self) -> bool:
        want = self._want
        instance = self._cloud.compute.instance(want.zone, want.vm_id)
        if instance is not None:
            self._claims(
                self._cloud.compute.guest_attributes(want.zone, want.vm, names.GUEST_PATH) or {}
            )
        if self._phase == want.phase:
            return True
        if instance is None:
            raise self._failure("is gone", running=False)
        if instance.get("status") in idle.GONE:
            raise self._failure(f"is {instance['status']}", running=False)
        if self._phase in ("failed", "ended"):
            raise self._failure(self._phase)
        return False

    def _claims(self, said: Mapping[str, str]) -> None:
        """Take in what the VM says. A word that is no phase of ours means failed, as everywhere."""
        phase = said.get("phase", "")
        if phase:
            # What came after "seeded" (a shutdown's "ended") must not undo it.
            done = self._phase == self._want.phase
            self._phase = self._phase if done else phase if phase in idle.PHASES else "failed"
        self._message = vms.printable(said.get("message", ""))
        self._teller.tell(said.get("timeline", ""), self._message)

    def _failure(self, state: str, *, running: bool = True) -> FailedError:
        want = self._want
        reason = self._preempted() if not running else ""
        reason = reason or self._message or "it did not say why"
        for line in self._last_lines():
            self._tell(f"| {line}")
        session = names.session_of(want.vm) or want.vm
        bill = (
            "It costs money until mayfly ends it." if running else "Its machine costs nothing now."
        )
        remedy = f"Try: mayfly down {session}" if running else "Try the same command again."
        return FailedError(f"{want.vm} in {want.zone} {state}: {reason}", bill, remedy)

    def _preempted(self) -> str:
        """Why Google ended the VM, if it did and says so; "" otherwise. Best effort: prose only."""
        try:
            for operation in self._cloud.compute.operations(f"targetId={self._want.vm_id}"):
                if operation.get("operationType") == "compute.instances.preempted":
                    return "Google preempted it (spot capacity was needed elsewhere)"
        except CloudError as error:
            self._tell(f"why is not known: {error}")
        return ""

    def _last_lines(self) -> list[str]:
        """The end of the serial console. Best effort: without it only the reason is shown."""
        try:
            text, _ = self._cloud.compute.serial_output(self._want.zone, self._want.vm)
        except CloudError as error:
            self._tell(f"the serial console cannot be read: {error}")
            return []
        return [vms.printable(line) for line in text.splitlines()[-SERIAL_LINES:]]


def main() -> int:
    """0 when the phase is reached, 1 when it will not be, 2 for a wrong environment."""
    try:
        want = wanted(os.environ)
        tell(f"waiting for {want.vm} in {want.zone} to be {want.phase}")
        Watch(connect(want.project), want, tell).wait()
    except MayflyError as error:
        tell(str(error))
        return error.exit_code
    print(want.phase)
    return 0


if __name__ == "__main__":
    sys.exit(main())
