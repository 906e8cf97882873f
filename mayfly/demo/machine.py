"""What a local machine did to itself, read from the commands that it recorded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Evidence:
    """The recorded commands of one kind each, as one line; "" when there was none."""

    driver_upgrade: str
    gib_removal: str

    def __str__(self) -> str:
        driver = self.driver_upgrade or "none"
        return f"driver upgrade: {driver}; GIB removal: {self.gib_removal or 'none'}"


def evidence(machine: Mapping[str, Any]) -> Evidence:
    """Read a machine's record. Only commands that succeeded count."""
    commands = [c["argv"] for c in machine["commands"] if c["exit"] == 0]
    return Evidence(
        driver_upgrade=_first(c for c in commands if _installs_driver(c)),
        gib_removal=_first(c for c in commands if _removes_gib(c)),
    )


def _installs_driver(argv: list[str]) -> bool:
    return argv[0] == "apt-get" and "install" in argv and any("nvidia" in a for a in argv)


def _removes_gib(argv: list[str]) -> bool:
    return any("gib" in a for a in argv)


def _first(commands: Iterable[list[str]]) -> str:
    return next((" ".join(argv)[:100] for argv in commands), "")
