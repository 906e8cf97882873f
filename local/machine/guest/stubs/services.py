"""systemctl, and the commands that end or restart the machine."""

import contextlib
import json
import shlex
import signal
import socket
from pathlib import Path
from typing import Any

import kernel
import units
from journal import JOURNAL, short
from stub import fail

SOCKET = "/run/systemd/private/manager"
WANTS = Path("/etc/systemd/system/multi-user.target.wants")
FLAGS = {"-q", "--quiet", "--no-pager", "--now", "--value", "--no-block", "-f", "--force",
         "--no-legend", "--plain", "-l", "--full", "--failed", "-a", "--all"}  # fmt: skip
VALUED = {"-p": "property", "--property": "property", "-s": "signal", "--signal": "signal",
          "-t": "type", "--type": "type", "-n": "lines", "--lines": "lines",
          "-o": "output", "--output": "output", "--state": "state"}  # fmt: skip
POWER = {
    "poweroff": kernel.RB_POWER_OFF,
    "halt": kernel.RB_POWER_OFF,
    "reboot": kernel.RB_AUTOBOOT,
}
JOB_PROBLEMS = {
    "failed": (
        "Job for {unit} failed because the control process exited with error code.\n"
        'See "systemctl status {unit}" and "journalctl -xeu {unit}" for details.'
    ),
    "dependency": ("A dependency job for {unit} failed. See 'journalctl -xe' for details."),
    "bad-setting": (
        "Failed to {verb} {unit}: Unit {unit} has a bad unit file setting.\n"
        "See system logs and 'systemctl status {unit}' for details."
    ),
    "not-found": "Failed to {verb} {unit}: Unit {unit} not found.",
    "canceled": "Job for {unit} canceled.",
}


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """One request to process 1; waits for the job to end."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(SOCKET)
        connection.sendall(json.dumps(request).encode() + b"\n")
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    return dict(json.loads(data)) if data else {"result": "canceled"}


def main(name: str, argv: list[str]) -> int:
    if name == "systemctl":
        return Systemctl().run(argv)
    if name == "shutdown":
        return shutdown(argv)
    known = {"-f", "--force", "-p", "--poweroff", "-h", "--halt", "--reboot"}
    for argument in argv:
        if argument not in known:
            return fail(f"{name}: unrecognized option '{argument}'")
    return power(name)


def power(verb: str) -> int:
    """Asks for it and returns at once; the machine ends a moment later."""
    ask({"verb": "power", "command": POWER[verb]})
    return 0


def shutdown(argv: list[str]) -> int:
    """`shutdown [-h|-P|-H|-r] [now|+0]`; a later time is not supported here."""
    verb = "poweroff"
    times = []
    for argument in argv:
        if argument in ("-h", "-P", "-H", "--poweroff", "--halt"):
            verb = "poweroff"
        elif argument in ("-r", "--reboot"):
            verb = "reboot"
        elif argument.startswith("-"):
            return fail(f"shutdown: unrecognized option '{argument}'")
        else:
            times.append(argument)
    if times[:1] not in (["now"], ["+0"]):
        return fail(f"shutdown: this machine only knows `now`, not {times or 'the default +1'}")
    return power(verb)


class Systemctl:
    """The verbs that scripts use; any other is refused as systemctl refuses an unknown one."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.options: dict[str, list[str]] = {}

    def run(self, argv: list[str]) -> int:
        words, problem = self._parse(argv)
        if problem:
            return fail(f"systemctl: {problem}")
        if not words:
            return fail("systemctl: this machine wants a verb")
        verb = words[0]
        if verb.endswith("-environment"):
            return self._environment(verb, words[1:])
        names = [n if "." in n else f"{n}.service" for n in words[1:]]
        method = getattr(self, "do_" + verb.replace("-", "_"), None)
        if method is None:
            return fail(f"Unknown command verb {verb}.")
        status: int = method(names)
        return status

    def _parse(self, argv: list[str]) -> tuple[list[str], str]:
        words: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            key, equals, value = word.partition("=")
            if key in VALUED and (equals or rest):
                self.options.setdefault(VALUED[key], []).append(value if equals else rest.pop(0))
            elif word in FLAGS:
                self.flags.add(word)
            elif word.startswith("-"):
                return [], f"unrecognized option '{word}'"
            else:
                words.append(word)
        return words, ""

    @property
    def quiet(self) -> bool:
        return bool(self.flags & {"-q", "--quiet"})

    def _job(self, verb: str, names: list[str]) -> int:
        if not names:
            return fail("Too few arguments.")
        worst = 0
        for name in names:
            result = ask({"verb": verb, "unit": name})["result"]
            if result in ("done", "skipped"):
                self._warn_if_stale(name)
                continue
            template = JOB_PROBLEMS.get(result, "Job for {unit} failed: " + result)
            if verb == "stop" and result == "not-found":
                template = "Failed to stop {unit}: Unit {unit} not loaded."
            fail(template.format(verb=verb, unit=name))
            worst = 5 if result == "not-found" else 1
        return worst

    def _warn_if_stale(self, name: str) -> None:
        if self._facts(name).get("NeedDaemonReload") == "yes":
            fail(
                f"Warning: The unit file, source configuration file or drop-ins of {name} changed "
                "on disk. Run 'systemctl daemon-reload' to reload units."
            )

    @staticmethod
    def _facts(name: str) -> dict[str, str]:
        return dict(ask({"verb": "facts", "unit": name}).get("facts", {}))

    def do_start(self, names: list[str]) -> int:
        return self._job("start", names)

    def do_stop(self, names: list[str]) -> int:
        return self._job("stop", names)

    def do_restart(self, names: list[str]) -> int:
        return self._job("restart", names)

    def do_kill(self, names: list[str]) -> int:
        text = self.options.get("signal", ["SIGTERM"])[-1]
        name = text if text.startswith("SIG") else f"SIG{text}"
        if name not in signal.Signals.__members__:
            return fail(f"Failed to parse signal string {text}.")
        worst = 0
        for unit in names:
            request = {"verb": "kill", "unit": unit, "signal": int(signal.Signals[name])}
            if ask(request)["result"] == "not-found":
                worst = fail(f"Failed to kill unit {unit}: Unit {unit} not loaded.")
        return worst

    def do_reset_failed(self, names: list[str]) -> int:
        worst = 0
        for name in names or [facts["Id"] for facts in ask({"verb": "list"})["units"]]:
            if ask({"verb": "reset-failed", "unit": name})["result"] == "not-found":
                worst = fail(
                    f"Failed to reset failed state of unit {name}: Unit {name} not loaded."
                )
        return worst

    def _environment(self, verb: str, words: list[str]) -> int:
        """show-environment, set-environment, unset-environment."""
        if verb not in ("show-environment", "set-environment", "unset-environment"):
            return fail(f"Unknown command verb {verb}.")
        if bool(words) == (verb == "show-environment"):
            return fail(f"Too {'many' if words else 'few'} arguments.")
        reply = ask({"verb": verb, "words": words})
        if reply.get("problem"):
            return fail(reply["problem"])
        for name, value in sorted(reply.get("environment", {}).items()):
            print(f"{name}={shlex.quote(value)}")
        return 0

    def do_daemon_reload(self, names: list[str]) -> int:
        if names:
            return fail("Too many arguments.")
        for problem in ask({"verb": "reload"})["problems"]:
            fail(problem)
        return 0

    def do_is_active(self, names: list[str]) -> int:
        return self._states(names, ("active", "reloading"), 3)

    def do_is_system_running(self, names: list[str]) -> int:
        if names:
            return fail("Too many arguments.")
        state = ask({"verb": "is-system-running"})["state"]
        if not self.quiet:
            print(state)
        return 0 if state == "running" else 1

    def do_is_failed(self, names: list[str]) -> int:
        return self._states(names, ("failed",), 1)

    def _states(self, names: list[str], good: tuple[str, ...], otherwise: int) -> int:
        states = [self._facts(name).get("ActiveState", "inactive") for name in names]
        if not self.quiet:
            print("\n".join(states))
        return 0 if any(state in good for state in states) else otherwise

    def do_is_enabled(self, names: list[str]) -> int:
        worst = 1
        for name in names:
            if units.find(name) is None:
                return fail(f"Failed to get unit file state for {name}: No such file or directory")
            enabled = (WANTS / name).is_symlink()
            worst = 0 if enabled else worst
            if not self.quiet:
                print("enabled" if enabled else "disabled")
        return worst

    def do_enable(self, names: list[str]) -> int:
        for name in names:
            path = units.find(name)
            if path is None:
                return fail(f"Failed to enable unit: Unit file {name} does not exist.")
            try:
                unit = units.load(name)
            except units.BadUnitError as error:
                return fail(f"Failed to enable unit: {error}")
            assert unit is not None
            if not unit.sections.get("Install"):
                fail("The unit files have no installation config (WantedBy=, RequiredBy=, Also=,")
                continue
            WANTS.mkdir(parents=True, exist_ok=True)
            if not (WANTS / name).is_symlink():
                (WANTS / name).symlink_to(path)
                fail(f"Created symlink {WANTS / name} → {path}.")
        return self._job("start", names) if "--now" in self.flags else 0

    def do_disable(self, names: list[str]) -> int:
        for name in names:
            if units.find(name) is None:
                return fail(f"Failed to disable unit: Unit file {name} does not exist.")
            if (WANTS / name).is_symlink():
                (WANTS / name).unlink()
                fail(f"Removed {WANTS / name}.")
        return self._job("stop", names) if "--now" in self.flags else 0

    def do_mask(self, names: list[str]) -> int:
        for name in names:
            path = Path("/etc/systemd/system", name)
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
            fail(f"Created symlink {path} → /dev/null.")
        return self._job("stop", names) if "--now" in self.flags else 0

    def do_show(self, names: list[str]) -> int:
        wanted = [n for text in self.options.get("property", []) for n in text.split(",")]
        for name in names:
            facts = self._facts(name)
            for key in wanted or facts:
                if key in facts:
                    print(facts[key] if "--value" in self.flags else f"{key}={facts[key]}")
        return 0

    def do_status(self, names: list[str]) -> int:
        worst = 0
        for name in names:
            facts = self._facts(name)
            if facts.get("LoadState") == "not-found":
                worst = fail(f"Unit {name} could not be found.", 4)
                continue
            active = facts["ActiveState"]
            worst = 0 if active == "active" else 3
            print(f"● {name} - {facts.get('Description', name)}")
            print(f"     Loaded: {facts['LoadState']} ({facts.get('FragmentPath', '')})")
            print(f"     Active: {active} ({facts['SubState']})")
            print(f"   Main PID: {facts.get('MainPID', '0')}\n")
            for entry in entries_of(name)[-10:]:
                print(short(entry))
        return worst

    def do_cat(self, names: list[str]) -> int:
        for name in names:
            path = units.find(name)
            if path is None:
                return fail(f"No files found for {name}.")
            print(f"# {path}\n{path.read_text()}")
        return 0

    def do_list_units(self, names: list[str]) -> int:
        for facts in ask({"verb": "list"})["units"]:
            if "--failed" not in self.flags or facts["ActiveState"] == "failed":
                columns = (facts["Id"], "loaded", facts["ActiveState"], facts["SubState"])
                print(*columns, facts["Description"])
        return 0

    def do_reboot(self, names: list[str]) -> int:
        return power("reboot")

    def do_poweroff(self, names: list[str]) -> int:
        return power("poweroff")

    def do_halt(self, names: list[str]) -> int:
        return power("halt")


def entries_of(unit: str) -> list[dict[str, Any]]:
    """The journal's entries of one unit."""
    if not JOURNAL.exists():
        return []
    entries = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
    return [entry for entry in entries if entry["unit"] == unit]
