"""Lock what a VM installs: `python tools/lock_wheels.py NAME REQUIREMENT...` writes NAME.lock.

One hash a package: that of the wheel which CPython 3.12 on x86-64 Linux with glibc 2.35 takes.
All hashes of all wheels would be 180 KB compressed; a startup archive may have 64 KiB in all, and
no other file could be installed on that machine anyway. Needs uv on PATH and the package index.
"""

import itertools
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent.parent / "startup/locks"
PYTHON, GLIBC = (3, 12), 35
WHEEL = re.compile(r".+-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
ALIASES = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}


def preference(name: str) -> tuple[int, int, int] | None:
    """How well a wheel's tags fit, the best the largest; None if it cannot be installed there."""
    match = WHEEL.fullmatch(name)
    if not match:
        return None
    tags = itertools.product(*(match[part].split(".") for part in ("python", "abi", "platform")))
    found = [(_interpreter(python, abi), _glibc(platform)) for python, abi, platform in tags]
    fits = [(*code, glibc) for code, glibc in found if code is not None and glibc is not None]
    return max(fits, default=None)


def _interpreter(python: str, abi: str) -> tuple[int, int] | None:
    kind, version = python[:2], (int(python[2]), int(python[3:] or 0))
    if kind == "cp" and version == PYTHON and abi in (f"cp{PYTHON[0]}{PYTHON[1]}", "none"):
        return (3 if abi != "none" else 1, version[1])
    if kind == "cp" and version <= PYTHON and abi == "abi3":
        return (2, version[1])
    if kind == "py" and version <= PYTHON and abi == "none":
        return (0, version[1])
    return None


def _glibc(platform: str) -> int | None:
    """A larger number is a newer glibc; 0: any platform."""
    if platform == "any":
        return 0
    match = re.fullmatch(r"(?:manylinux_2_(\d+)|(manylinux\d+)|linux)_x86_64", platform)
    if not match:
        return None
    version = int(match[1] or ALIASES.get(match[2] or "", 1))
    return version if version <= GLIBC else None


def lock_line(package: dict[str, Any]) -> str:
    """`name==version --hash=...`; SystemExit when nothing of it can be installed there."""
    wheels = []
    for wheel in package.get("wheels", ()):
        name = wheel.get("name") or wheel["url"].rpartition("/")[2]
        fit = preference(name.replace("%2B", "+"))
        if fit is not None:
            wheels.append((fit, wheel["hashes"]["sha256"]))
    if not wheels:
        raise SystemExit(f"{package['name']} {package['version']} has no wheel for that machine")
    return f"{package['name']}=={package['version']} --hash=sha256:{max(wheels)[1]}"


def resolve(requirements: list[str]) -> list[dict[str, Any]]:
    """uv's answer, every package pinned with all its wheels."""
    platform = f"x86_64-manylinux_2_{GLIBC}"
    version = ".".join(map(str, PYTHON))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pylock.toml")
        command = ["uv", "pip", "compile", "-q", "--format=pylock.toml", "-o", str(out), "-"]
        command += ["--python-version", version, "--python-platform", platform]
        subprocess.run(command, input="\n".join(requirements), text=True, check=True)
        return list(tomllib.loads(out.read_text("utf-8"))["packages"])


def main(name: str, requirements: list[str]) -> None:
    head = f"# Made by: python tools/lock_wheels.py {name} {' '.join(requirements)}\n"
    lines = [lock_line(package) for package in resolve(requirements)]
    path = LOCKS / f"{name}.lock"
    path.write_text(head + "\n".join(lines) + "\n", "utf-8")
    print(f"{path.name}: {len(lines)} packages")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
