"""One service: its processes and its states, as systemd names them."""

import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import spawn
from addresses import Gate
from loop import Lines, Loop
from units import Command, Unit

Done = Callable[[str], None]  # "done", "failed", "dependency", "skipped"
_POLL_S = 0.05
_DEFAULT_TIMEOUT_S = 90.0
MACHINE = os.readlink("/proc/self/ns/mnt")


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
        self._around: spawn.Surroundings | None = None
        self._waiting: list[Done] = []  # start jobs
        self._stopping: list[Done] = []  # stop jobs
        self._generation = 0  # timers of an older life are void
        self._lines: list[Lines] = []
        self._namespaces: set[str] = set()  # the mount namespaces of its processes

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
            self._sequence(
                "ExecStop", self.unit.values("Service", "ExecStop"), lambda _: self._terminate()
            )
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
        """Every process of this life, as a cgroup would tell.

        They carry its INVOCATION_ID; where they have a mount namespace they cannot leave that.
        """
        marker = f"INVOCATION_ID={self.facts.invocation}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != "1":
                with contextlib.suppress(OSError):
                    inside = os.readlink(entry / "ns/mnt") in self._namespaces
                    if inside or marker in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
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
        self._namespaces.clear()
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
            self._around = spawn.prepare(
                self.unit, self.facts.invocation, self.host.base_environment()
            )
        except spawn.SpawnError as error:
            self.host.note(self.unit, str(error))
            return self._main_gone("resources")
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
                self.host.note(
                    self.unit,
                    f"Control process exited, code={how(status)[0]}, status={how(status)[1]}"
                    if key != "ExecStart"
                    else f"Main process exited, code={how(status)[0]}, status={how(status)[1]}",
                )
                return then(result)
            return self._sequence(key, commands[1:], then)

        return self._run(commands[0], ended, main=key == "ExecStart")

    def _run(self, text: str, ended: Callable[[int], None], *, main: bool) -> None:
        assert self._around is not None
        command = Command.parse(text)
        reader, writer = os.pipe()
        started = spawn.spawn(self.unit, command, self._around, writer)
        os.close(writer)
        pid = started.pid
        with contextlib.suppress(OSError):  # it is over already
            self._namespaces |= {os.readlink(f"/proc/{pid}/ns/mnt")} - {MACHINE}
        if started.listener is not None:
            Gate(self.host.loop, started.listener, self._around.rules)
        name = self.unit.value("SyslogIdentifier") or os.path.basename(command.argv[0])
        lines = Lines(
            self.host.loop, reader, lambda line: self.host.log(self.unit, (name, pid), line)
        )
        self._lines = [item for item in self._lines if item.open]
        self._lines.append(lines)
        if main:
            self.facts.main_pid = pid

        def gone(status: int) -> None:
            lines.drain()
            if main:
                self.facts.main_pid = 0
                self.facts.exec_main_code, self.facts.exec_main_status = codes(status)
            ended(status)

        self.host.loop.child(pid, gone)

    def _main_exited(self, status: int) -> None:
        result = outcome(status, self.unit)
        if self.facts.active == "deactivating":  # the poll that waits for the whole group sees it
            if self.facts.result == "success":
                self.facts.result = result
            return
        code, text = how(status)
        self.host.note(self.unit, f"Main process exited, code={code}, status={text}")
        self._main_gone(result)

    def _main_gone(self, result: str) -> None:
        """The main process is over, or could not begin: clear up, then restart or rest."""
        if self.facts.result == "success":
            self.facts.result = result
        self._terminate()

    # -- the end

    def _terminate(self) -> None:
        """Kill by KillMode, wait, kill for good, clear up."""
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
            self.unit.values("Service", "ExecStopPost") if self._around else [],
            lambda _: self._finish(self.facts.result),
        )

    def _finish(self, result: str) -> None:
        self._generation += 1
        for path in self._around.own if self._around else []:
            shutil.rmtree(path, ignore_errors=True)
        stopped = bool(self._stopping)
        self.facts.result = result
        if result == "success":
            self._set("inactive", "dead")
            self.host.note(self.unit, f"{self.unit.name}: Deactivated successfully.")
        else:
            self._set("failed", "failed")
            self.host.note(self.unit, f"Failed with result '{result}'.")
        if not stopped and self._wants_restart(result):
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

    def _wants_restart(self, result: str) -> bool:
        policy = self.unit.value("Restart", "no")
        prevented = self.unit.words("Service", "RestartPreventExitStatus")
        if result == "exit-code" and str(self.facts.exec_main_status) in prevented:
            return False
        return {
            "no": False,
            "always": True,
            "on-success": result == "success",
            "on-failure": result != "success",
            "on-abnormal": result in ("signal", "core-dump", "timeout", "watchdog"),
            "on-abort": result in ("signal", "core-dump"),
            "on-watchdog": result == "watchdog",
        }[policy]

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


def send(pid: int, number: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def how(status: int) -> tuple[str, str]:
    """(code, status) as systemd prints them."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "killed", f"{number}/{signal.Signals(number).name.removeprefix('SIG')}"
    code = os.WEXITSTATUS(status)
    known = {0: "SUCCESS", 1: "FAILURE", 200: "CHDIR", 203: "EXEC", 226: "NAMESPACE"}
    return "exited", f"{code}/{known.get(code, 'n/a')}"


def codes(status: int) -> tuple[int, int]:
    """(CLD_EXITED or CLD_KILLED, number)."""
    return (2, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (1, os.WEXITSTATUS(status))


def outcome(status: int, unit: Unit) -> str:
    """The service result that a wait status means."""
    good = unit.words("Service", "SuccessExitStatus")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        clean = number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
        named = signal.Signals(number).name in good
        return "success" if clean or named else "signal"
    code = os.WEXITSTATUS(status)
    return "success" if code == 0 or str(code) in good else "exit-code"
