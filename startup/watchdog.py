"""Ends the VM when nobody uses it: the first of three layers, and it needs no rights for that.

`python3 -m startup.watchdog`, a systemd service. Every 15 s (or idle_s / 8, if shorter) it looks,
publishes heartbeat and active_at, asks mayfly.idle for its verdict, and powers off when told to.

All spans are on the monotonic clock, and what is published on Google's: a wall clock that jumps
neither ends nor saves a VM. What it knows outlives its own restart in /run/mayfly/watchdog.json;
the VM's age outlives a reboot.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TextIO

from mayfly import idle
from startup import cloud, paths, probes, processes, serving, words

PERIOD_S = 15.0
LEASE_TIMEOUT_S = 5.0
LEASE_EVERY_S = 60.0
CLOCK_EVERY_S = 600.0
SAID_CHARS = 300


@dataclass(frozen=True)
class Clock:
    """Two clocks, so that a test can turn them."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


def period_s(limits: idle.Limits) -> float:
    return max(0.2, min(PERIOD_S, limits.idle_s / 8))


class Log:
    """A stream whose lines may get lost: the disk under it may be full, and the watch goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        pass


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
        self._people: list[probes.Probe] = [probes.Terminals(data), processes.Processes(data)]
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
        seen, unknown = self._sample(phase, elapsed_s, now)
        if seen:
            data["active"], data["activity"] = now, seen
        if seen or not unknown:
            data["heartbeat"] = now
        verdict = self._judge(phase, now)
        if verdict.end:
            self._end(verdict, unknown)
        else:
            self._tell(now, unknown)
        try:
            self._memory.save(self._clock)
        except OSError as error:  # a full disk must not end a session that is at work
            print(f"what is known is not written down: {error}", flush=True)
        return verdict

    def _judge(self, phase: str, now: float) -> idle.Verdict:
        """The rule's verdict. Storage is asked for the lease once a minute and before an end."""
        data = self._memory.data
        seen = idle.Observation(
            status="RUNNING",
            created_at=data["created"],
            phase=phase if phase in idle.PHASES else "failed",
            heartbeat_at=data["heartbeat"],
            active_at=data["active"],
            lease_until=None,
        )
        verdict = idle.verdict(seen, self.limits, now)
        if verdict.kind in ("gone", "deadline"):
            return verdict  # no lease holds against these
        due = verdict.end or now - data.get("lease_read", -math.inf) >= LEASE_EVERY_S
        known = self._read_lease(now) if due else True
        verdict = idle.verdict(replace(seen, lease_until=data.get("lease")), self.limits, now)
        if verdict.end and verdict.kind == "idle" and not known:
            # Somebody may just have asked to keep it. Not for ever: then it is silent to us.
            waited_s = now - data.setdefault("lease_unknown", now)
            return replace(verdict, end=waited_s >= self.limits.heartbeat_s)
        data.pop("lease_unknown", None)
        return verdict

    def _sample(self, phase: str, elapsed_s: float, now: float) -> tuple[str, list[str]]:
        """(who or what is at work, what could not be looked at)."""
        data = self._memory.data
        starting = phase in idle.STARTING and now < data["created"] + self.limits.start_s
        person, unknown = self._ask(self._people, elapsed_s)
        if person:
            data["person"] = now
        work = [self._work[phase]] if phase in self._work else []
        working, more = self._ask(work, elapsed_s)
        return working or person or (f"it starts ({phase})" if starting else ""), unknown + more

    @staticmethod
    def _ask(looks: list[probes.Probe], elapsed_s: float) -> tuple[str, list[str]]:
        active, unknown = "", []
        for look in looks:
            try:
                active = look(elapsed_s) or active
            except Exception as error:  # any failure of a probe means only: not known
                unknown.append(str(error) or repr(error))
        return active, unknown

    def _read_lease(self, now: float) -> bool:
        """Whether we could look. The last lease known counts while we cannot."""
        data = self._memory.data
        try:
            text = cloud.read_object(self._lease_uri, timeout_s=LEASE_TIMEOUT_S, tries=1)
        except cloud.CloudError as error:
            # Without the right to list, Cloud Storage answers 403 for what is not there.
            return error.status == 403
        except Exception as error:  # nothing about a lease may stop the watch
            print(f"lease: {error!r}", flush=True)
            return False
        lease = idle.parse_lease(text) if text is not None else None
        wall = self._wall(now)
        held = lease is not None and lease.holds(data.get("vm_id"))
        data["lease"] = now + lease.until - wall if lease is not None and held else None
        data["lease_read"] = now
        return True

    def _wall(self, now: float) -> float:
        """Unix seconds, by Google's clock if it can be had: by it our claims are judged."""
        data = self._memory.data
        if now - data.get("clock_read", -math.inf) >= CLOCK_EVERY_S:
            try:
                data["vm_id"], at = cloud.who_and_when()
                data["epoch"], data["clock_read"] = at - now, now
            except cloud.CloudError as error:
                print(f"clock: {error}", flush=True)
        return now + data["epoch"] if "epoch" in data else self._clock.wall()

    def _tell(self, now: float, unknown: list[str]) -> None:
        wall, data = self._wall(now), self._memory.data
        heartbeat = math.floor(wall - (now - data["heartbeat"]))
        active = math.ceil(wall - (now - data["active"]))  # rounded in the user's favour
        cloud.publish("heartbeat", words.rfc3339(heartbeat), tries=1)
        cloud.publish("active_at", words.rfc3339(active), tries=1)
        for text in unknown:
            print(f"not known: {text}", flush=True)
        load = json.dumps(data.get("load"))
        if load != data.get("load_told", "null") and cloud.publish("load", load, tries=1):
            data["load_told"] = load
        activity, missing = str(data.get("activity", "")), "; ".join(unknown)
        look = json.dumps({"active": activity[:SAID_CHARS], "unknown": missing[:SAID_CHARS]})
        if look != data.get("look") and cloud.publish("look", look, tries=1):
            data["look"] = look

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


def power_off() -> None:
    """Ask systemd, then insist: a machine that hangs in its shutdown goes on costing."""
    for command in (["systemctl", "poweroff"], ["systemctl", "poweroff", "--force"]):
        try:
            if subprocess.run(command, check=False, timeout=30).returncode == 0:
                return
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{' '.join(command)}: {error}", flush=True)


def main() -> int:
    sys.stdout = sys.stderr = Log(sys.stdout)  # type: ignore[assignment]
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
