"""dpkg and dpkg-query over the machine's packages."""

import fnmatch
import re
import sys
from pathlib import Path
from typing import Any

import archive
from archive import Package
from stub import fail

from stubs.database import UPDATES, configure, installed, unpack
from stubs.packages import Call, wait_for_lock


def main(name: str, argv: list[str]) -> int:
    return dpkg(argv) if name == "dpkg" else dpkg_query(argv)


def dpkg(argv: list[str]) -> int:
    if argv == ["--print-architecture"]:
        print("amd64")
        return 0
    if argv == ["--configure", "-a"]:
        return finish()
    if argv[:1] in (["-l"], ["--list"], ["-s"], ["--status"]):
        return dpkg_query(argv)
    if argv[:1] in (["-i"], ["--install"]) and argv[1:]:
        return dpkg_install(argv[1:])
    return fail(f"dpkg: error: unknown option {' '.join(argv)}", 2)


def finish() -> int:
    """What was begun and cut off."""
    if wait_for_lock(Call()):
        return 2
    for path in UPDATES.glob("*"):
        path.unlink()
    return 1 if configure(installed()) else 0


def dpkg_install(files: list[str]) -> int:
    if wait_for_lock(Call()):
        return 2
    packages = []
    for file in files:
        try:
            packages.append(archive.read(Path(file)))
        except (OSError, ValueError) as error:
            return fail(f"dpkg: error processing archive {file} (--install):\n {error}")
    have = installed()
    given = {package.name for package in packages}
    for package in packages:
        for need in package.needs:
            if need not in have and need not in given:
                fail(f"dpkg: dependency problems prevent configuration of {package.name}:")
                return fail(
                    f" {package.name} depends on {need}; however:\n  Package {need} is not "
                    "installed."
                )
    return unpack({"-y"}, packages, have)


def dpkg_query(argv: list[str]) -> int:
    """`-W [-f=FORMAT] [PATTERN...]`, `-s NAME`, `-l [PATTERN...]`."""
    mode, text, patterns = "", "${binary:Package}\t${Version}\n", []
    for word in argv:
        if word in ("-W", "--show", "-s", "--status", "-l", "--list"):
            mode = word.lstrip("-")[0].replace("s", "S") if word != "--show" else "W"
        elif word.startswith(("-f=", "--showformat=")):
            text = word.partition("=")[2]
        elif word.startswith("-f") and len(word) > 2:
            text = word[2:]
        elif word.startswith("-"):
            return fail(f"dpkg-query: error: unknown option {word}", 2)
        else:
            patterns.append(word)
    if not mode:
        return fail("dpkg-query: error: need an action option", 2)
    have = installed()
    status = 0
    chosen: list[str] = [] if patterns else sorted(have)
    for pattern in patterns:
        matches = sorted(fnmatch.filter(have, pattern))
        if not matches:
            status = fail(f"dpkg-query: no packages found matching {pattern}")
        chosen += matches
    for name in chosen:
        print(describe(name, have[name], mode, text), end="")
    sys.stdout.flush()
    return status


def describe(name: str, facts: dict[str, Any], mode: str, text: str) -> str:
    version = str(facts["version"])
    if mode == "S":
        return f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n"
    if mode == "l":
        return f"{'hi' if facts['held'] else 'ii'}  {name} {version} {facts['architecture']}\n"
    state = "half-configured" if facts.get("half") else "installed"
    values = {
        "Package": name,
        "binary:Package": name,
        "Version": version,
        "Architecture": str(facts["architecture"]),
        "Status": f"{'hold' if facts['held'] else 'install'} ok {state}",
        "db:Status-Abbrev": f"{'h' if facts['held'] else 'i'}{'F' if facts.get('half') else 'i'} ",
        "db:Status-Status": state,
        "source:Upstream-Version": Package(name, version).upstream,
    }
    filled = re.sub(r"\$\{([^}]+)\}", lambda m: values.get(m[1].split(";")[0], ""), text)
    return filled.replace("\\n", "\n").replace("\\t", "\t")
