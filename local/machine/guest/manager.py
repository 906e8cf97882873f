"""The machine's service manager: what `systemctl` asks, the boot, the way down."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import driver
import kernel
import units
from environment import ManagerEnvironment
from journal import Journal
from loop import Loop
from service import Service
from sudo import Sudo
from units import BadUnitError, Unit

from startup import StartupScript

SOCKET = "/run/systemd/private/manager"
WANTS = "/etc/systemd/system/multi-user.target.wants"
_SHUTDOWN_LIMIT_S = 25.0
Reply = dict[str, Any]
Answer = Callable[[Reply], None]


class Manager:
    """All units of the machine, and its power switch."""

    def __init__(self, loop: Loop, console: int, config: dict[str, Any]) -> None:
        self.loop, self.config = loop, config
        self.journal = Journal(console)
        self.services: dict[str, Service] = {}
        self.booted = time.time()
        self._down: int | None = None
        self._environment = ManagerEnvironment(config["environment"])
        self._script = StartupScript(loop, self.journal, self._environment.whole)
        self._sudo = Sudo(loop, self._environment.whole)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(SOCKET)
        self._listener.listen(64)
        loop.watch(self._listener.fileno(), self._accept)

    # -- boot and shutdown

    def boot(self) -> None:
        """Enabled units, then the startup script, which may start more."""
        driver.load_at_boot(self.config)
        self._read_environment()
        image = sorted(driver.UNITS.glob("*.service"))
        for unit in (*image, *sorted(Path(WANTS).glob("*.service"))):
            self.start(unit.name, lambda _: None)
        self._script.run()

    def power_off(self) -> None:
        self.go_down(kernel.RB_POWER_OFF)

    def go_down(self, command: int) -> None:
        """Stop every unit, then reboot(2); what does not end in time is cut off."""
        if self._down is not None:
            return
        self._down = command
        self.journal.say("[  OK  ] Reached target Shutdown.")
        self._script.kill()
        pending = {
            name for name, item in self.services.items() if item.facts.active not in _RESTING
        }

        def stopped(name: str) -> None:
            pending.discard(name)
            if not pending:
                self._cut()

        for name in list(pending):
            self.services[name].stop(lambda _, name=name: stopped(name))
        if not pending:
            self._cut()
        self.loop.later(_SHUTDOWN_LIMIT_S, self._cut)

    def _cut(self) -> None:
        os.sync()
        assert self._down is not None
        kernel.reboot(self._down)

    # -- what a service needs of us

    def base_environment(self) -> dict[str, str]:
        return self._environment.whole()

    def _read_environment(self) -> None:
        for problem in self._environment.reload():
            self.journal.write("init.scope", ("systemd", 1), problem, console=True)

    def log(self, unit: Unit, source: tuple[str, int], text: str) -> None:
        output = unit.value("StandardOutput", "journal")
        self.journal.write(unit.name, source, text, console=output.endswith("+console"))

    def note(self, unit: Unit, text: str) -> None:
        """systemd's own word about a unit; starts, stops and failures also reach the console."""
        line = text if unit.name in text else f"{unit.name}: {text}"
        if text.startswith(("Start", "Stopp", "Finish")):
            line = text
        self.journal.write(unit.name, ("systemd", 1), line, console=True)

    def ended(self, service: Service) -> None:
        if service.facts.active != "failed" or self._down is not None:
            return
        for name in service.unit.words("Unit", "OnFailure"):
            self.start(name, lambda _: None)
        action = service.unit.value("FailureAction", "none", "Unit")
        if action.startswith("poweroff"):
            self.power_off()
        elif action.startswith("reboot"):
            self.go_down(kernel.RB_AUTOBOOT)

    # -- units

    def get(self, name: str) -> Service | None:
        """The loaded unit; None when there is no such file. Raises BadUnitError."""
        if name not in self.services:
            unit = units.load(name)
            if unit is None:
                return None
            self.services[name] = Service(unit, self)
        return self.services[name]

    def start(self, name: str, done: Callable[[str], None]) -> None:
        """Start with what it requires and wants; `done` hears "done" or why not."""
        if name in units.TARGETS:
            return done("done")
        try:
            service = self.get(name)
        except BadUnitError as error:
            self.journal.write(name, ("systemd", 1), str(error), console=True)
            return done("bad-setting")
        if service is None:
            return done("not-found")
        required = [
            *service.unit.words("Unit", "Requires"),
            *service.unit.words("Unit", "BindsTo"),
        ]
        for wanted in service.unit.words("Unit", "Wants"):
            self.start(wanted, lambda _: None)
        return self._start_after(service, required, done)

    def _start_after(
        self, service: Service, required: list[str], done: Callable[[str], None]
    ) -> None:
        if not required:
            return service.start(done)

        def came(result: str) -> None:
            if result not in ("done", "skipped"):
                return done("dependency")
            return self._start_after(service, required[1:], done)

        return self.start(required[0], came)

    def reload(self) -> list[str]:
        """Read every unit file again; returns the lines of those that are bad."""
        self._read_environment()
        problems = []
        for name, service in list(self.services.items()):
            try:
                unit = units.load(name)
            except BadUnitError as error:
                problems.append(str(error))
                self.journal.write(name, ("systemd", 1), str(error), console=True)
                continue
            if unit is not None:
                service.unit = unit
            elif service.facts.active in _RESTING:
                del self.services[name]
        return problems

    # -- requests of systemctl

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        data = b""
        try:
            while not data.endswith(b"\n"):
                chunk = connection.recv(65536)
                if not chunk:
                    return connection.close()
                data += chunk
        except OSError:
            return connection.close()

        def answer(reply: Reply) -> None:
            with contextlib.suppress(OSError):  # a client may leave; what it asked is done
                connection.sendall(json.dumps(reply).encode() + b"\n")
            connection.close()

        return self._handle(json.loads(data), answer)

    def _handle(self, request: Reply, answer: Answer) -> None:
        verb, name = request["verb"], request.get("unit", "")
        if verb == "power":
            answer({"result": "done"})
            return self.go_down(request["command"])
        if verb == "reload":
            return answer({"result": "done", "problems": self.reload()})
        if verb in ("set-environment", "unset-environment"):
            change = self._environment.set if verb[0] == "s" else self._environment.unset
            return answer({"result": "done", "problem": change(request["words"])})
        if verb == "show-environment":
            return answer({"result": "done", "environment": self._environment.whole()})
        if verb == "is-system-running":
            return answer({"result": "done", "state": self._state()})
        if verb == "list":
            return answer({"result": "done", "units": [self._facts(n) for n in self.services]})
        if verb == "start":
            return self.start(name, lambda result: answer({"result": result}))
        try:
            service = self.get(name)
        except BadUnitError:
            return answer({"result": "bad-setting", "facts": {"Id": name, **_BAD}})
        if service is None:
            known = name in units.TARGETS
            return answer(
                {"result": "done" if known else "not-found", "facts": {"Id": name, **_ABSENT}}
            )
        return self._unit_verb(verb, service, request, answer)

    def _state(self) -> str:
        if self._down is not None:
            return "stopping"
        failed = any(item.facts.active == "failed" for item in self.services.values())
        return "degraded" if failed else "running"

    def _unit_verb(self, verb: str, service: Service, request: Reply, answer: Answer) -> None:
        name = service.unit.name
        if verb == "stop":
            return service.stop(lambda result: answer({"result": result}))
        if verb == "restart":
            return service.stop(
                lambda _: self.start(name, lambda result: answer({"result": result}))
            )
        if verb == "reset-failed":
            service.reset()
        elif verb == "kill":
            service.kill(request["signal"])
        return answer({"result": "done", "facts": self._facts(name)})

    def _facts(self, name: str) -> dict[str, str]:
        service = self.services[name]
        facts, unit = service.facts, service.unit
        stale = not unit.path.exists() or unit.path.stat().st_mtime != unit.modified
        return {
            "Id": name,
            "Names": name,
            "Description": service.description,
            "LoadState": "loaded",
            "ActiveState": facts.active,
            "SubState": facts.sub,
            "Result": facts.result,
            "MainPID": str(facts.main_pid),
            "ExecMainStatus": str(facts.exec_main_status),
            "ExecMainCode": str(facts.exec_main_code),
            "NRestarts": str(facts.restarts),
            "InvocationID": facts.invocation,
            "FragmentPath": str(unit.path),
            "UnitFileState": "enabled" if Path(WANTS, name).is_symlink() else "disabled",
            "NeedDaemonReload": "yes" if stale else "no",
            "StateChangeTimestamp": _timestamp(facts.since),
            "ActiveEnterTimestamp": _timestamp(facts.since if facts.active == "active" else 0),
            "Type": unit.value("Type", "simple"),
            "Restart": unit.value("Restart", "no"),
        }


_RESTING = ("inactive", "failed")
_ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
_BAD = {"LoadState": "bad-setting", "ActiveState": "inactive", "SubState": "dead"}


def _timestamp(moment: float) -> str:
    return time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(moment)) if moment else ""
