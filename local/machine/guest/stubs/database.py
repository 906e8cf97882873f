"""dpkg's database, and what happens when packages are set up or taken away."""

import json
from pathlib import Path
from typing import Any

import archive
import driver
from archive import Package
from stub import config, fail

from stubs import services

STATUS = Path("/var/lib/machine/packages.json")
FAILURES = Path("/var/lib/machine/apt-failures")  # how many there were
UPDATES = Path("/var/lib/dpkg/updates")  # what an interrupted dpkg leaves
Have = dict[str, dict[str, Any]]


def installed() -> dict[str, dict[str, Any]]:
    """Name -> version, architecture, held."""
    found = dict(json.loads(STATUS.read_text())) if STATUS.exists() else {}
    for name in archive.IMAGE:
        version = archive.COMMON[name][0]
        found.setdefault(name, {"version": version, "architecture": "amd64", "held": False})
    return found


def store(packages: dict[str, dict[str, Any]]) -> None:
    STATUS.parent.mkdir(parents=True, exist_ok=True)
    STATUS.write_text(json.dumps(packages, indent=1))


def interrupted() -> bool:
    """Whether dpkg was cut off in the middle of something."""
    return UPDATES.is_dir() and any(UPDATES.iterdir())


def is_installed(facts: dict[str, Any] | None, version: str) -> bool:
    return bool(facts and facts["version"] == version and not facts.get("half"))


def unpack(flags: set[str], todo: list[Package], have: Have) -> int:
    """Install, after removing what the new packages replace."""
    stems = {package.stem for package in todo}
    gone = [
        name
        for name in have
        if Package(name, "").stem in stems
        and name not in {p.name for p in todo}
        and name.startswith(("nvidia", "libnvidia"))
    ]
    held = [n for n in (*gone, *(p.name for p in todo)) if have.get(n, {}).get("held")]
    if held and "--allow-change-held-packages" not in flags:
        return fail(
            "E: Held packages were changed and -y was used without --allow-change-held-packages.",
            100,
        )
    if gone:
        print("The following packages will be REMOVED:\n  " + " ".join(sorted(gone)))
    print("The following NEW packages will be installed:\n  " + " ".join(p.name for p in todo))
    if not flags & {"-y", "--yes", "--assume-yes"}:
        print("Do you want to continue? [Y/n] Abort.")
        return 1
    for name in gone:
        print(f"Removing {name} ({have[name]['version']}) ...")
        withdraw(name)
        del have[name]
    for package in todo:
        print(f"Unpacking {package.name} ({package.version}) ...")
        have[package.name] = {
            "version": package.version,
            "architecture": package.architecture,
            "held": False,
            "half": True,
        }
    return configure(have)


def configure(have: Have) -> int:
    """Set up what is unpacked only; a package whose own script fails stays half configured."""
    broken = []
    for name, facts in have.items():
        if facts.get("half"):
            package = Package(name, str(facts["version"]))
            print(f"Setting up {name} ({package.version}) ...", flush=True)
            if take_effect(package):
                facts["half"] = False
            else:
                broken.append(name)
                fail(
                    f"dpkg: error processing package {name} (--configure):\n installed {name} "
                    "package post-installation script subprocess returned error exit status 10"
                )
    store(have)
    services.ask({"verb": "reload"})  # as the packages' own scripts do
    if not broken:
        return 0
    fail("Errors were encountered while processing:\n " + "\n ".join(broken))
    return fail("E: Sub-process /usr/bin/dpkg returned an error code (1)", 100)


def take_effect(package: Package) -> bool:
    """What a package changes beside the database; False where its script fails."""
    if package.name.startswith("nvidia-dkms-"):
        return build_module(package.upstream)
    if package.name.startswith("nvidia-fabricmanager-"):
        driver.install_daemon("nvidia-fabricmanager", package.upstream)
    return True


def build_module(version: str) -> bool:
    """As DKMS does: without headers it builds nothing and is content."""
    settings, kernel = config()["settings"], driver.release()
    if settings["kernel_headers"] != "true":
        print(
            f"Module build for kernel {kernel} was skipped since the\n"
            "kernel headers for this kernel do not seem to be installed."
        )
        return True
    print(f"Building initial module for {kernel}", flush=True)
    failures = int(FAILURES.read_text()) if FAILURES.exists() else 0
    if failures < float(settings["apt_fails"]):
        FAILURES.write_text(str(failures + 1))
        fail(f"Error! Bad return status for module build on kernel: {kernel} (x86_64)")
        return False
    print("Done.")
    driver.install(version, signed=False)
    return True


def withdraw(name: str) -> None:
    if name.startswith("nvidia-dkms-"):
        driver.install("", signed=False)
    elif name.startswith("nvidia-fabricmanager-"):
        (driver.UNITS / "nvidia-fabricmanager.service").unlink(missing_ok=True)
