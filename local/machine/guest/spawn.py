"""Starts one process of a unit, in the surroundings its unit file asks for."""

import contextlib
import os
import resource
import shlex
import shutil
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path

import kernel
from units import Unit, environment_file

DIRECTORIES = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}
_LIMITS = {
    "LimitNOFILE": resource.RLIMIT_NOFILE,
    "LimitMEMLOCK": resource.RLIMIT_MEMLOCK,
    "LimitCORE": resource.RLIMIT_CORE,
    "LimitNPROC": resource.RLIMIT_NPROC,
    "LimitSTACK": resource.RLIMIT_STACK,
}
EXIT_CHDIR, EXIT_EXEC, EXIT_NAMESPACE, EXIT_STDOUT = 200, 203, 226, 209  # systemd's own


class SpawnError(Exception):
    """The process cannot be started; the message is for the journal."""


@dataclass
class Surroundings:
    """What a unit's processes are given, worked out once for each start."""

    environment: dict[str, str]
    writable: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)  # directories to remove when it stops


def prepare(unit: Unit, invocation: str, base: dict[str, str]) -> Surroundings:
    """Directories, credentials, environment. Raises SpawnError."""
    around = Surroundings({**base, "INVOCATION_ID": invocation})
    make_directories(unit, around)
    load_credentials(unit, around)
    user = unit.value("User") or ("nobody" if unit.flag("DynamicUser") else "")
    if user:
        home = "/root" if user == "root" else "/"
        around.environment |= {"USER": user, "LOGNAME": user, "HOME": home}
    for line in unit.values("Service", "Environment"):
        around.environment |= environment_file("\n".join(shlex.split(line)))
    for path in unit.values("Service", "EnvironmentFile"):
        optional = path.startswith("-")
        try:
            around.environment |= environment_file(Path(path.lstrip("-")).read_text())
        except OSError as error:
            if not optional:
                raise SpawnError(
                    f"Failed to load environment files: {error.strerror}: {path}"
                ) from error
    for name in unit.words("Service", "UnsetEnvironment"):
        around.environment.pop(name, None)
    return around


def make_directories(unit: Unit, around: Surroundings) -> None:
    for key, base in DIRECTORIES.items():
        mode = int(unit.value(f"{key}Mode", "0755"), 8)
        paths = []
        for name in unit.words("Service", key):
            path = Path(base, name)
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
            paths.append(str(path))
        if paths:
            around.environment[_variable(key)] = ":".join(paths)
            around.writable += paths
        if key == "RuntimeDirectory" and unit.value("RuntimeDirectoryPreserve", "no") == "no":
            around.own += paths


def _variable(key: str) -> str:
    return key.removesuffix("Directory").upper() + "_DIRECTORY"


def load_credentials(unit: Unit, around: Surroundings) -> None:
    items = unit.values("Service", "LoadCredential")
    folder = Path("/run/credentials", unit.name)
    shutil.rmtree(folder, ignore_errors=True)
    if not items:
        return
    folder.mkdir(parents=True, mode=0o700)
    for item in items:
        name, _, source = item.partition(":")
        try:
            (folder / name).write_bytes(Path(source or name).read_bytes())
        except OSError as error:
            raise SpawnError(f"Failed to set up credentials: {error.strerror}: {source}") from error
        (folder / name).chmod(0o400)
    around.environment["CREDENTIALS_DIRECTORY"] = str(folder)
    around.own.append(str(folder))


def spawn(unit: Unit, argv: list[str], around: Surroundings, output: int) -> int:
    """Fork and run; returns the pid. `output` is the journal's end for this unit."""
    pid = os.fork()
    if pid == 0:
        status = EXIT_EXEC
        try:
            status = _child(unit, argv, around, output)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(2, f"{unit.name}: {error}\n".encode())
        os._exit(status)
    return pid


def _child(unit: Unit, argv: list[str], around: Surroundings, output: int) -> int:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.umask(int(unit.value("UMask", "0022"), 8))
    try:
        out = _open_output(unit.value("StandardOutput", "journal"), output)
        error_to = unit.value("StandardError", "inherit")
        error = out if error_to == "inherit" else _open_output(error_to, output)
    except OSError as failure:
        os.write(2, f"Failed to set up standard output: {failure.strerror}\n".encode())
        return EXIT_STDOUT
    os.dup2(error, 2)
    os.dup2(out, 1)
    _set_limits(unit)
    if confined(unit):
        _confine(unit, around)
    directory = unit.value("WorkingDirectory", "/")
    try:
        os.chdir("/root" if directory == "~" else directory.lstrip("-"))
    except OSError as failure:
        if not directory.startswith("-"):
            os.write(2, f"Changing to the requested working directory failed: {failure}\n".encode())
            return EXIT_CHDIR
    if unprivileged(unit):
        kernel.drop_capabilities()
    try:
        os.execvpe(argv[0], argv, around.environment)
    except OSError as failure:
        os.write(2, f"Failed to execute {argv[0]}: {failure.strerror}\n".encode())
    return EXIT_EXEC


def _open_output(kind: str, journal: int) -> int:
    """The descriptor that StandardOutput= or StandardError= names."""
    if kind in ("journal", "journal+console", "inherit", "kmsg", "syslog"):
        return journal
    if kind == "null":
        return os.open("/dev/null", os.O_WRONLY)
    how, _, path = kind.partition(":")
    flags = {"append": os.O_APPEND, "truncate": os.O_TRUNC, "file": 0}.get(how)
    if flags is None or not path:
        raise OSError(22, f"unsupported output {kind}")
    return os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)


def _set_limits(unit: Unit) -> None:
    for key, limit in _LIMITS.items():
        text = unit.value(key)
        if not text:
            continue
        wanted = resource.RLIM_INFINITY if text == "infinity" else int(text.partition(":")[0])
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or wanted > hard):
            wanted = hard  # root in a user namespace cannot go past what the host grants
        resource.setrlimit(limit, (wanted, hard))


def unprivileged(unit: Unit) -> bool:
    return unit.flag("DynamicUser") or unit.value("User", "root") not in ("root", "0")


def confined(unit: Unit) -> bool:
    """Whether the unit sees a tree of its own."""
    return (
        unit.flag("DynamicUser")
        or unit.flag("PrivateTmp")
        or unit.value("ProtectSystem", "no") != "no"
        or any(
            unit.values("Service", key)
            for key in ("ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths")
        )
    )


def _confine(unit: Unit, around: Surroundings) -> None:
    """DynamicUser= and ProtectSystem=strict: nothing can be written but what is granted."""
    kernel.unshare(kernel.CLONE_NEWNS)
    strict = unit.flag("DynamicUser") or unit.value("ProtectSystem") == "strict"
    grants = [*around.writable, *unit.words("Service", "ReadWritePaths"), "/dev", "/proc"]
    private = unit.flag("DynamicUser") or unit.flag("PrivateTmp")
    if private:
        for path in ("/tmp", "/var/tmp"):
            own_tmp(path)
            grants.append(path)
    if strict:
        for path in grants:
            name = path.lstrip("-")
            if Path(name).exists():
                kernel.bind(name, name, read_only=False)
        keep = {path.lstrip("-") for path in grants}
        for point in mount_points():
            if not any(point == name or point.startswith(f"{name}/") for name in keep):
                _freeze_one(point)
    elif unit.value("ProtectSystem") in ("yes", "true", "full"):
        kernel.bind("/etc", "/etc")
    for path in unit.words("Service", "ReadOnlyPaths"):
        name = path.lstrip("-+")
        if Path(name).exists():
            kernel.bind(name, name)
    for path in unit.words("Service", "InaccessiblePaths"):
        _hide(path.lstrip("-+"))


def own_tmp(path: str) -> None:
    """An empty folder in place of `path`, but for what belongs to the image and lies below it.

    The host's environment and interpreter are mounted at their own paths, wherever those are.
    """
    image = {p: os.open(p, os.O_PATH) for p in mount_points() if p.startswith(f"{path}/")}
    kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    for point, held in image.items():
        target = Path(point)
        if stat.S_ISDIR(os.fstat(held).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        kernel.bind(f"/proc/self/fd/{held}", point)
        os.close(held)


def _hide(path: str) -> None:
    if Path(path).is_dir():
        kernel.mount("tmpfs", path, "tmpfs", 0, "mode=000,size=4k")
    elif Path(path).exists():
        kernel.bind("/dev/null", path)


def _freeze_one(point: str) -> None:
    with contextlib.suppress(OSError):  # those locked by the first step are read-only already
        kernel.freeze_alone(point)


def mount_points() -> list[str]:
    """Every mount, the last of those stacked on one place."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return list(dict.fromkeys(line.split()[4] for line in lines))
