"""Ends the VM when nobody uses it: the first of three layers, and it needs no rights for that.

`python3 -m startup.watchdog`, a systemd service. Every 15 s (or idle_s / 8, if shorter) it looks,
publishes heartbeat and active_at, asks mayfly.idle for its verdict, and powers off when told to.

All spans are on the monotonic clock: a wall clock that jumps neither ends nor saves a VM. What it
knows outlives its own restart in /run/mayfly/watchdog.json; the VM's age outlives a reboot.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mayfly import idle
from startup import cloud, paths, probes, serving, words

PERIOD_S = 15.0
LEASE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Clock:
    """Two clocks, so that a test can turn them."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


def period_s(limits: idle.Limits) -> float:
    return max(0.2, min(PERIOD_S, limits.idle_s / 8))


class Memory:
    """What is known, in plain JSON. Times are monotonic seconds of this boot."""

    def __init__(self, clock: Clock) -> None:
        self._path = paths.run_dir() / "watchdog.json"
        self._age_path = paths.state_dir() / "age"
        try:
            self.data: dict[str, Any] = json.loads(paths.read(self._path) or "{}")
            float(self.data.get("created", 0))
        except (ValueError, TypeError, AttributeError):
            self.data = {}
        if "created" not in self.data:
            self.data["created"] = clock.monotonic() - self._age_s(clock)

    def _age_s(self, clock: Clock) -> float:
        """Seconds lived before this boot: by the wall clock, but never less than was counted."""
        first, _, counted = paths.read(self._age_path).partition(" ")
        try:
            return max(clock.wall() - float(first), float(counted), 0.0)
        except ValueError:
            return 0.0

    def save(self, clock: Clock) -> None:
        age = clock.monotonic() - self.data["created"]
        paths.write(self._age_path, f"{clock.wall() - age} {age}")
        paths.write(self._path, json.dumps(self.data))


class Watchdog:
    """One `look` a period. power_off must be safe to call again: it is, until the VM is dead."""

    def __init__(
        self,
        settings: Mapping[str, str],
        power_off: Callable[[], object],
        clock: Clock | None = None,
    ) -> None:
        self.limits = idle.Limits(
            idle_s=float(settings["MAYFLY_IDLE_S"]),
            start_s=float(settings["MAYFLY_START_S"]),
            failed_s=float(settings["MAYFLY_FAILED_S"]),
            heartbeat_s=float(settings["MAYFLY_HEARTBEAT_S"]),
            max_life_s=float(settings["MAYFLY_MAX_LIFE_S"]),
        )
        self._lease_uri = (
            f"gs://{settings['MAYFLY_STATE_BUCKET']}/leases/{settings['MAYFLY_SESSION']}"
        )
        self._power_off = power_off
        self._clock = clock or Clock()
        self._memory = Memory(self._clock)
        data = self._memory.data
        self._people: list[probes.Probe] = [probes.Terminals(data), probes.Processes(data)]
        port = int(settings.get("MAYFLY_PORT") or 8000)
        self._work: dict[str, probes.Probe] = {
            "serving": serving.Serving(port, self.limits, data, self._clock.monotonic),
            "seeding": probes.Progress(data),
        }
        data.setdefault("heartbeat", self._clock.monotonic())
        data.setdefault("active", self._clock.monotonic())

    def look(self) -> idle.Verdict:
        """Sample, decide, act, tell: in this order, so that nothing slow stands before the end."""
        now, data = self._clock.monotonic(), self._memory.data
        phase = words.phase()
        elapsed_s = now - data.get("looked", now)
        data["looked"] = now
        active, unknown = self._sample(phase, elapsed_s, now)
        if active:
            data["active"] = now
        if active or not unknown:
            data["heartbeat"] = now
        lease_until, lease_known = self._lease(now)
        seen = idle.Observation(
            status="RUNNING",
            created_at=data["created"],
            phase=phase if phase in idle.PHASES else "failed",
            heartbeat_at=data["heartbeat"],
            active_at=data["active"],
            lease_until=lease_until,
        )
        verdict = idle.verdict(seen, self.limits, now)
        if verdict.end and verdict.kind == "idle" and not lease_known:
            # Somebody may just have asked to keep it. Not for ever: then it is silent to us.
            waited_s = now - data.setdefault("lease_unknown", now)
            if waited_s < self.limits.heartbeat_s:
                verdict = replace(verdict, end=False)
        if lease_known:
            data.pop("lease_unknown", None)
        if verdict.end:
            self._end(verdict, unknown)
        else:
            self._tell(now, unknown)
        self._memory.save(self._clock)
        return verdict

    def _sample(self, phase: str, elapsed_s: float, now: float) -> tuple[bool, list[str]]:
        """(somebody or something is at work, what could not be looked at)."""
        data = self._memory.data
        starting = phase in idle.STARTING and now < data["created"] + self.limits.start_s
        person, unknown = self._ask(self._people, elapsed_s)
        if person:
            data["person"] = now
        work = [self._work[phase]] if phase in self._work else []
        working, more = self._ask(work, elapsed_s)
        return starting or person or working, unknown + more

    @staticmethod
    def _ask(looks: list[probes.Probe], elapsed_s: float) -> tuple[bool, list[str]]:
        active, unknown = False, []
        for look in looks:
            try:
                active = look(elapsed_s) or active
            except Exception as error:  # any failure of a probe means only: not known
                unknown.append(str(error) or repr(error))
        return active, unknown

    def _lease(self, now: float) -> tuple[float | None, bool]:
        """(its end on our clock, whether we could look). The last one known counts meanwhile."""
        try:
            text = cloud.read_object(self._lease_uri, timeout_s=LEASE_TIMEOUT_S, tries=1)
            until = parse_lease(text)
            left_s = None if until is None else until - self._clock.wall()
            self._memory.data["lease"] = None if left_s is None else now + left_s
            known = True
        except cloud.CloudError as error:
            # Without the right to list, Cloud Storage answers 403 for what is not there.
            known = error.status == 403
        except Exception as error:  # nothing about a lease may stop the watch
            print(f"lease: {error!r}", flush=True)
            known = False
        return self._memory.data.get("lease"), known

    def _tell(self, now: float, unknown: list[str]) -> None:
        wall, data = self._clock.wall(), self._memory.data
        heartbeat = math.floor(wall - (now - data["heartbeat"]))
        active = math.ceil(wall - (now - data["active"]))  # rounded in the user's favour
        cloud.publish("heartbeat", words.rfc3339(heartbeat), tries=1)
        cloud.publish("active_at", words.rfc3339(active), tries=1)
        for text in unknown:
            print(f"not known: {text}", flush=True)

    def _end(self, verdict: idle.Verdict, unknown: list[str]) -> None:
        said = verdict.reason
        if not said.startswith(verdict.kind):
            said = f"{verdict.kind}: {said}"
        before = paths.read(paths.run_dir() / "message")
        if verdict.kind == "failed" and before:
            said += f"; {before}"
        if verdict.kind == "silent" and unknown:
            said += f"; {'; '.join(unknown)}"
        print(f"ending this VM: {said}", flush=True)
        try:
            if words.phase() not in idle.DONE:
                words.set_phase("ended", said)
        except OSError as error:  # a full disk must not keep the machine alive
            print(f"could not say so: {error}", flush=True)
        self._power_off()


def parse_lease(text: bytes | None) -> float | None:
    """Until when `leases/<session>` holds the VM, in Unix seconds; None for none or a bad one."""
    if text is None or len(text) > idle.MAX_CLAIM_BYTES:
        return None
    try:
        return idle.parse_time(json.loads(text)["until"])
    except (ValueError, KeyError, TypeError):
        return None


def power_off() -> None:
    """Ask systemd, then insist: a machine that hangs in its shutdown goes on costing."""
    for command in (["systemctl", "poweroff"], ["systemctl", "poweroff", "--force"]):
        try:
            if subprocess.run(command, check=False, timeout=30).returncode == 0:
                return
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{' '.join(command)}: {error}", flush=True)


def main() -> int:
    watchdog = Watchdog(os.environ, power_off)
    pause_s = period_s(watchdog.limits)
    looked = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            watchdog.look()
            looked = began
        except Exception as error:  # whatever it is, the next look may be better
            print(f"a look failed: {error!r}", flush=True)
            if began - looked >= watchdog.limits.heartbeat_s:
                power_off()  # blind for so long: nobody would ever end this VM from inside
        time.sleep(max(0.1, pause_s - (time.monotonic() - began)))


if __name__ == "__main__":
    sys.exit(main())
