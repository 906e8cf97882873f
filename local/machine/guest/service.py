"""One service: its processes and its states, as systemd names them."""

import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import spawn
from group import Group, send
from loop import Loop
from statuses import codes, how, outcome, wants_restart
from units import Command, Unit

Done = Callable[[str], None]  # "done", "failed", "dependency", "skipped"
_POLL_S = 0.05
_DEFAULT_TIMEOUT_S = 90.0


class Host(Protocol):
    """What a service needs of its manager."""

    loop: Loop

    def base_environment(self) -> dict[str, str]: ...
    def log(self, unit: Unit, source: tuple[str, int], text: str) -> None: ...
    def note(self, unit: Unit, text: str) -> None: ...
    def ended(self, service: "Service") -> None: ...


@dataclass
class Facts:
    """What `systemctl show` tells."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    main_pid: int = 0
    exec_main_status: int = 0
    exec_main_code: int = 0
    restarts: int = 0
    since: float = 0.0
    invocation: str = ""
    starts: list[float] = field(default_factory=list)


class Service:
    """A loaded service unit and its life."""

    def __init__(self, unit: Unit, host: Host) -> None:
        self.unit, self.host = unit, host
        self.facts = Facts()
        self._group: Group | None = None
        self._waiting: list[Done] = []  # start jobs
        self._stopping: list[Done] = []  # stop jobs
        self._generation = 0  # timers of an older life are void

    # -- what is asked of it

    def start(self, done: Done) -> None:
        """Begin, unless it runs; `done` hears when that is decided."""
        if self.facts.active == "active":
            return done("done")
        if self.facts.active == "activating" and self.facts.sub != "auto-restart":
            return self._waiting.append(done)
        if self.facts.active == "deactivating":
            return self._stopping.append(lambda _: self.start(done))
        self._waiting.append(done)
        if not self._within_start_limit():
            self.host.note(self.unit, "Start request repeated too quickly.")
            return self._fail("start-limit-hit")
        return self._begin()

    def stop(self, done: Done) -> None:
        """End it; `done` hears when nothing of it runs."""
        state = self.facts
        if state.active in ("inactive", "failed"):
            return done("done")
        self._stopping.append(done)
        if state.sub == "auto-restart":
            return self._finish("success")
        if state.active != "deactivating":
            self._resolve("canceled")
            self.host.note(self.unit, f"Stopping {self.description}...")
            # What never came up is not asked to stop.
            began = self.unit.values("Service", "ExecStop") if state.active == "active" else []
            self._sequence("ExecStop", began, lambda _: self._terminate())
        return None

    def reset(self) -> None:
        """Forget a failure and the start limit."""
        self.facts.starts.clear()
        if self.facts.active == "failed":
            self._set("inactive", "dead")
            self.facts.result = "success"

    def kill(self, number: int) -> None:
        for pid in self.pids():
            send(pid, number)

    @property
    def description(self) -> str:
        return self.unit.value("Description", self.unit.name, "Unit")

    def pids(self) -> list[int]:
        """Every process of this life."""
        found = self._group.pids() if self._group else []
        if self.facts.main_pid and self.facts.main_pid not in found:
            found.append(self.facts.main_pid)
        return found

    # -- start

    def _within_start_limit(self) -> bool:
        burst = int(self.unit.value("StartLimitBurst", "5", "Unit"))
        interval_s = self.unit.seconds("StartLimitIntervalSec", 10, "Unit")
        now = time.monotonic()
        self.facts.starts = [t for t in self.facts.starts if now - t < interval_s]
        if interval_s and len(self.facts.starts) >= burst:
            return False
        self.facts.starts.append(now)
        return True

    def _begin(self) -> None:
        self._generation += 1
        self._group = None
        self.facts.invocation = secrets.token_hex(16)
        self._set("activating", "start-pre")
        for path in self.unit.values("Unit", "ConditionPathExists"):
            if Path(path.lstrip("!|")).exists() == path.startswith("!"):
                self.host.note(
                    self.unit, f"Condition check resulted in {self.description} being skipped."
                )
                self._set("inactive", "dead")
                return self._resolve("skipped")
        self.host.note(self.unit, f"Starting {self.description}...")
        try:
            base = self.host.base_environment()
            around = spawn.prepare(self.unit, self.facts.invocation, base)
        except spawn.SpawnError as error:
            self.host.note(self.unit, str(error))
            return self._main_gone("resources")
        self._group = Group(self.unit, around, self.host.loop, self.host.log)
        timeout_s = self.unit.seconds(
            "TimeoutStartSec", self.unit.seconds("TimeoutSec", _DEFAULT_TIMEOUT_S)
        )
        if self.unit.value("Type") == "oneshot" and not self.unit.value("TimeoutStartSec"):
            timeout_s = float("inf")
        self._timer(timeout_s, self._start_timeout)
        self._sequence("ExecStartPre", self.unit.values("Service", "ExecStartPre"), self._pre_done)
        return None

    def _start_timeout(self) -> None:
        if self.facts.active == "activating":
            self.host.note(self.unit, "start operation timed out. Terminating.")
            self.facts.result = "timeout"
            self._terminate()

    def _pre_done(self, result: str) -> None:
        if result != "success":
            return self._main_gone(result)
        starts = self.unit.values("Service", "ExecStart")
        if self.unit.value("Type") == "oneshot":
            self._set("activating", "start")
            return self._sequence("ExecStart", starts, self._oneshot_done)
        self._set("activating", "start")
        self._run(starts[0], self._main_exited, main=True)
        return self._running()

    def _oneshot_done(self, result: str) -> None:
        if result == "success" and self.unit.flag("RemainAfterExit"):
            self._set("active", "exited")
            self.host.note(self.unit, f"Finished {self.description}.")
            return self._resolve("done")
        if result == "success":
            self.host.note(self.unit, f"Finished {self.description}.")
        return self._main_gone(result)

    def _running(self) -> None:
        self._set("active", "running")
        self.host.note(self.unit, f"Started {self.description}.")
        self._sequence(
            "ExecStartPost", self.unit.values("Service", "ExecStartPost"), lambda _: None
        )
        self._resolve("done")

    # -- processes

    def _sequence(self, key: str, commands: list[str], then: Done) -> None:
        """Run commands one after the other; `then` hears "success" or how the first one failed."""
        if not commands:
            return then("success")
        command = Command.parse(commands[0])
        generation = self._generation

        def ended(status: int) -> None:
            if generation != self._generation:
                return
            result = "success" if command.may_fail else outcome(status, self.unit)
            if result != "success":
                kind = "Main" if key == "ExecStart" else "Control"
                self._note_exit(kind, status)
                return then(result)
            return self._sequence(key, commands[1:], then)

        return self._run(commands[0], ended, main=key == "ExecStart")

    def _run(self, text: str, ended: Callable[[int], None], *, main: bool) -> None:
        assert self._group is not None

        def gone(status: int) -> None:
            if main:
                self.facts.main_pid = 0
                self.facts.exec_main_code, self.facts.exec_main_status = codes(status)
            ended(status)

        pid = self._group.run(Command.parse(text), gone)
        if main:
            self.facts.main_pid = pid

    def _main_exited(self, status: int) -> None:
        result = outcome(status, self.unit)
        if self.facts.active == "deactivating":  # the poll that waits for the whole group sees it
            if self.facts.result == "success":
                self.facts.result = result
            return
        self._note_exit("Main", status)
        self._main_gone(result)

    def _note_exit(self, kind: str, status: int) -> None:
        code, text = how(status)
        self.host.note(self.unit, f"{kind} process exited, code={code}, status={text}")

    def _main_gone(self, result: str) -> None:
        """The main process is over, or could not begin: clear up, then restart or rest."""
        if self.facts.result == "success":
            self.facts.result = result
        self._terminate()

    # -- the end

    def _terminate(self) -> None:
        """Kill by KillMode, wait, kill for good, clear up."""
        self._generation += 1  # what its start would have run next
        self._set("deactivating", "stop-sigterm")
        number = getattr(signal, self.unit.value("KillSignal", "SIGTERM"))
        mode = self.unit.value("KillMode", "control-group")
        if mode in ("mixed", "process"):
            send(self.facts.main_pid, number)
        elif mode == "control-group":
            self.kill(number)
        limit_s = self.unit.seconds(
            "TimeoutStopSec", self.unit.seconds("TimeoutSec", _DEFAULT_TIMEOUT_S)
        )
        self._await_end(time.monotonic() + limit_s, mode, killed=False)

    def _await_end(self, deadline: float, mode: str, *, killed: bool) -> None:
        left = self._left(mode)
        if not left:
            return self._after_end()
        if time.monotonic() > deadline and not killed:
            self.host.note(self.unit, "State 'stop-sigterm' timed out. Killing.")
            self.facts.result = "timeout"
            for pid in left:
                self.host.note(self.unit, f"Killing process {pid} with signal SIGKILL.")
                send(pid, signal.SIGKILL)
            killed = True
        self._timer(_POLL_S, lambda: self._await_end(deadline, mode, killed=killed))
        return None

    def _left(self, mode: str) -> list[int]:
        if mode == "none":
            return []
        if mode == "mixed" and not self.facts.main_pid:
            for pid in self.pids():
                send(pid, signal.SIGKILL)
        if mode == "process":
            return [self.facts.main_pid] if self.facts.main_pid else []
        return self.pids()

    def _after_end(self) -> None:
        self._sequence(
            "ExecStopPost",
            self.unit.values("Service", "ExecStopPost") if self._group else [],
            lambda _: self._finish(self.facts.result),
        )

    def _finish(self, result: str) -> None:
        self._generation += 1
        if self._group:
            self._group.clear()
        stopped = bool(self._stopping)
        self.facts.result = result
        if result == "success":
            self._set("inactive", "dead")
            self.host.note(self.unit, f"{self.unit.name}: Deactivated successfully.")
        else:
            self._set("failed", "failed")
            self.host.note(self.unit, f"Failed with result '{result}'.")
        if not stopped and wants_restart(self.unit, result, self.facts.exec_main_status):
            self._schedule_restart()
        elif self.facts.active == "failed" or result != "success":
            self._resolve("failed")
        else:
            self._resolve("done")
        self.host.ended(self)
        for done in self._take(self._stopping):
            done("done")

    def _fail(self, result: str) -> None:
        self.facts.result = result
        self._set("failed", "failed")
        self.host.note(self.unit, f"Failed with result '{result}'.")
        self._resolve("failed")
        self.host.ended(self)

    def _schedule_restart(self) -> None:
        delay_s = self.unit.seconds("RestartSec", 0.1)
        self._set("activating", "auto-restart")
        self._resolve("failed" if self.facts.result != "success" else "done")

        def again() -> None:
            if self.facts.sub != "auto-restart":
                return
            self.facts.restarts += 1
            self.facts.result = "success"
            self.host.note(
                self.unit,
                f"Scheduled restart job, restart counter is at {self.facts.restarts}.",
            )
            self.facts.active = "inactive"
            self.start(lambda _: None)

        self._timer(delay_s, again)

    # -- small things

    def _set(self, active: str, sub: str) -> None:
        if active == "activating" and sub == "start-pre":
            self.facts.result = "success"
        if (active, sub) != (self.facts.active, self.facts.sub):
            self.facts.since = time.time()
        self.facts.active, self.facts.sub = active, sub

    def _timer(self, delay_s: float, callback: Callable[[], None]) -> None:
        if delay_s == float("inf"):
            return
        generation = self._generation

        def fire() -> None:
            if generation == self._generation:
                callback()

        self.host.loop.later(delay_s, fire)

    def _resolve(self, result: str) -> None:
        for done in self._take(self._waiting):
            done(result)

    @staticmethod
    def _take(jobs: list[Done]) -> list[Done]:
        taken = jobs[:]
        jobs.clear()
        return taken
