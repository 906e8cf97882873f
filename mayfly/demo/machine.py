"""What a local machine did to itself: the commands it recorded, and its serial console."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# How stage 20 says what it takes away; the linker's cache is made anew after it.
GIB_REMOVAL = re.compile(r"mayfly gib: INFO (?:removing|cleaning) (\S+)")


@dataclass(frozen=True)
class Evidence:
    """driver_upgrade: the packages it installed. gib_removal: the paths it took GIB out of."""

    driver_upgrade: tuple[str, ...]
    gib_removal: tuple[str, ...]

    def __str__(self) -> str:
        driver, gib = self.driver_upgrade, self.gib_removal
        upgrade = f"{len(driver)} packages, {driver[0]} ..." if driver else "none"
        return f"driver upgrade: {upgrade}; GIB taken out of: {', '.join(gib) or 'nothing'}"


def evidence(machine: Mapping[str, Any]) -> Evidence:
    """Read a machine's record. Only commands that succeeded count."""
    done = [c["argv"] for c in machine["commands"] if c["exit"] == 0]
    packages = [p for argv in done if argv[:2] == ["apt-get", "install"] for p in _drivers(argv)]
    removed = GIB_REMOVAL.findall(machine["serial"]) if ["ldconfig"] in done else []
    return Evidence(driver_upgrade=tuple(packages), gib_removal=tuple(removed))


def _drivers(argv: list[str]) -> list[str]:
    """The names of the NVIDIA packages that a command installs from files."""
    names = [word.rsplit("/", 1)[-1] for word in argv if word.endswith(".deb")]
    return [name.removesuffix("_amd64.deb") for name in names if "nvidia" in name]
