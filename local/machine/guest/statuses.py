"""What a wait status means to systemd, and whether it starts a service again."""

import os
import signal

from units import Unit


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
    """The service's result."""
    good = unit.words("Service", "SuccessExitStatus")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        clean = number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
        named = signal.Signals(number).name in good
        return "success" if clean or named else "signal"
    code = os.WEXITSTATUS(status)
    return "success" if code == 0 or str(code) in good else "exit-code"


def wants_restart(unit: Unit, result: str, exit_status: int) -> bool:
    """Restart=, for a service that nobody has stopped."""
    prevented = unit.words("Service", "RestartPreventExitStatus")
    if result == "exit-code" and str(exit_status) in prevented:
        return False
    return {
        "no": False,
        "always": True,
        "on-success": result == "success",
        "on-failure": result != "success",
        "on-abnormal": result in ("signal", "core-dump", "timeout", "watchdog"),
        "on-abort": result in ("signal", "core-dump"),
        "on-watchdog": result == "watchdog",
    }[unit.value("Restart", "no")]
