"""What would lead NCCL to Google's gIB plugin: on this machine, or in a running unit.

python3 -m startup.nccl_env machine     one line for each trace that is left on the machine
                            unit NAME   one line for each NCCL setting of its main process that is
                                        not as it should be
Exit 0: none. 1: the lines say which. 3: it could not look, which is not the same as none.
Nothing is changed here: 20-gib.sh does that, by other means than these.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from startup import paths

# One node without RDMA: no plugin of any kind, sockets on loopback to find each other.
WANTED = {
    "NCCL_ENV_PLUGIN": "none",
    "NCCL_NET_PLUGIN": "none",
    "NCCL_TUNER_PLUGIN": "none",
    "NCCL_NET": "Socket",
    "NCCL_IB_DISABLE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
}
HARMLESS = re.compile(r"NCCL_DEBUG(_\w+)?")
TRACE = re.compile(r"/gib(?![\w-])|\bNCCL_\w+ *=", re.IGNORECASE)
FOLDER = "usr/local/gib"
SETTINGS = (
    *("etc/environment", "etc/environment.d/*", "etc/nccl.conf", "root/.nccl.conf"),
    *("etc/profile", "etc/profile.d/*", "etc/bash.bashrc", "root/.bashrc", "root/.profile"),
    *("etc/ld.so.conf", "etc/ld.so.conf.d/*", "etc/ld.so.preload"),
    *("etc/systemd/system.conf", "etc/systemd/system.conf.d/*", "run/systemd/system.conf.d/*"),
    *("usr/lib/systemd/system.conf.d/*", "usr/local/lib/systemd/system.conf.d/*"),
    *("etc/systemd/system/service.d/*", "run/systemd/system/service.d/*"),
    *("usr/lib/systemd/system/service.d/*", "usr/local/lib/systemd/system/service.d/*"),
    *(
        f"{base}/system-environment-generators/*"
        for base in ("etc/systemd", "run/systemd", "usr/lib/systemd", "usr/local/lib/systemd")
    ),
)


class CannotLookError(Exception):
    """The question stays open; the message says which one."""


def settings_files(root: Path) -> list[Path]:
    """Those that exist. A folder that is there and cannot be listed is an error, not empty."""
    found: list[Path] = []
    for pattern in SETTINGS:
        folder, _, last = pattern.rpartition("/")
        place = root / folder
        if last != "*":
            found += [place / last] if (place / last).exists() else []
        elif place.is_dir():
            found += sorted(path for path in place.iterdir() if path.is_file())
    return found


def lines_of(path: Path) -> Iterator[str]:
    """The lines that mean something to whoever reads the file."""
    for line in path.read_text("utf-8", "replace").splitlines():
        if not line.lstrip().startswith(("#", ";")) or line.startswith("#!"):
            yield line.strip()


def machine_traces(root: Path) -> Iterator[str]:
    """Each place that still names the plugin or sets NCCL's variables."""
    if (root / FOLDER).exists() or (root / FOLDER).is_symlink():
        yield f"/{FOLDER}"
    for path in settings_files(root):
        for line in lines_of(path):
            if TRACE.search(line):
                yield f"/{path.relative_to(root)}: {line}"
    for line in said("ldconfig", "-p"):
        if TRACE.search(line):
            yield f"the linker's cache: {line.strip()}"
    for line in said("systemctl", "show-environment"):
        if TRACE.search(line):
            yield f"systemd's environment: {line}"


def unit_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """What a process with this environment would do otherwise than it should."""
    for name, value in WANTED.items():
        if environment.get(name) != value:
            yield f"{name} is {environment.get(name)!r}, not {value!r}"
    for name, value in environment.items():
        if name.startswith("NCCL_") and name not in WANTED and not HARMLESS.fullmatch(name):
            yield f"{name} is set ({value})"
        elif not name.startswith("NCCL_") and TRACE.search(value):
            yield f"{name} names the plugin ({value})"


def unit_environment(name: str, root: Path) -> dict[str, str]:
    """The environment that the unit's main process was started with, as the kernel has it."""
    (pid,) = [line for line in said("systemctl", "show", "-p", "MainPID", "--value", name) if line]
    if pid == "0":
        raise CannotLookError(f"{name} does not run")
    raw = (root / "proc" / pid / "environ").read_bytes().decode("utf-8", "replace")
    if not raw:  # its process ends at this moment
        raise CannotLookError(f"{name} shows no environment")
    return dict(pair.partition("=")[::2] for pair in raw.split("\0") if pair)


def said(*command: str) -> list[str]:
    """A command's lines. CannotLookError: it fails, or says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotLookError(f"{' '.join(command)}: {error}") from error
    if not done.stdout.strip():
        raise CannotLookError(f"{' '.join(command)} says nothing")
    return done.stdout.splitlines()


def main(argv: list[str]) -> int:
    root = paths.root()
    try:
        if argv == ["machine"]:
            lines = list(machine_traces(root))
        elif len(argv) == 2 and argv[0] == "unit":
            lines = list(unit_problems(unit_environment(argv[1], root)))
        else:
            raise CannotLookError(f"unknown question {argv!r}")
    except (CannotLookError, OSError, ValueError) as error:
        print(f"could not look for gIB: {error}", file=sys.stderr)
        return 3
    print(*lines, sep="\n", end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
