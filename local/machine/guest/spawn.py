"""Starts one process of a unit, in the surroundings its unit file asks for."""

import contextlib
import os
import resource
import shlex
import signal
from dataclasses import dataclass, field
from pathlib import Path

import confine
import directories
import kernel
import seccomp
from addresses import Rules
from identity import ROOT, Identity, assume, identity_of, kept_capabilities
from units import BadUnitError, Command, Unit, environment_file

_LIMITS = {
    "LimitNOFILE": resource.RLIMIT_NOFILE,
    "LimitMEMLOCK": resource.RLIMIT_MEMLOCK,
    "LimitCORE": resource.RLIMIT_CORE,
    "LimitNPROC": resource.RLIMIT_NPROC,
    "LimitSTACK": resource.RLIMIT_STACK,
}
EXIT_CHDIR, EXIT_EXEC, EXIT_NAMESPACE, EXIT_STDOUT = 200, 203, 226, 209  # systemd's own
_OF_INIT = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SpawnError(Exception):
    """The process cannot be started; the message is for the journal."""


@dataclass
class Surroundings:
    """What a unit's processes are given, worked out once for each start."""

    environment: dict[str, str]
    identity: Identity = ROOT
    rules: Rules = field(default_factory=Rules)
    view: confine.View = field(default_factory=confine.View)
    own: list[str] = field(default_factory=list)  # directories to remove when it stops


def prepare(unit: Unit, invocation: str, base: dict[str, str]) -> Surroundings:
    """Directories, credentials, environment. Raises SpawnError."""
    who = identity_of(unit)
    try:
        kept_capabilities(unit)
        around = Surroundings({**base, "INVOCATION_ID": invocation}, who, Rules.of(unit))
    except BadUnitError as error:
        raise SpawnError(str(error)) from error
    try:
        _make_directories(unit, around)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise SpawnError(f"Failed to set up special execution directory: {reason}") from error
    try:
        credentials = directories.load_credentials(unit, who)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise SpawnError(f"Failed to set up credentials: {reason}") from error
    if credentials:
        around.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        around.own.append(str(credentials))
        around.view.readable.append(str(credentials))
    _set_environment(unit, around)
    return around


def _make_directories(unit: Unit, around: Surroundings) -> None:
    for key in directories.BASES:
        made = directories.make(unit, around.identity, key)
        if made:
            name = key.removesuffix("Directory").upper() + "_DIRECTORY"
            around.environment[name] = ":".join(str(plain) for plain, _ in made)
        around.view.writable += [str(real) for plain, real in made if plain == real]
        around.view.private += [real for plain, real in made if plain != real]
        if key == "RuntimeDirectory" and unit.value("RuntimeDirectoryPreserve", "no") == "no":
            around.own += [str(real) for _, real in made]


def _set_environment(unit: Unit, around: Surroundings) -> None:
    """In systemd's order: manager, user, Environment=, the files, and then what is unset."""
    if unit.value("User") or unit.flag("DynamicUser"):
        home = "/root" if around.identity.is_root else "/"
        name = around.identity.name
        around.environment |= {"USER": name, "LOGNAME": name, "HOME": home}
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


@dataclass(frozen=True)
class Started:
    """pid, and the descriptor where its calls ask for permission (addresses.Gate), if they do."""

    pid: int
    listener: int | None


def spawn(unit: Unit, command: Command, around: Surroundings, output: int) -> Started:
    """Fork and run. `output` is the journal's end for this unit."""
    guarded = bool(around.rules.deny) and not command.privileged
    told, tell = os.pipe()
    waited, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = EXIT_EXEC
        os.close(release)  # or its end would never be seen
        try:
            process = Process(unit, command, around)
            process.surround(output)
            if guarded:
                os.write(tell, str(seccomp.listen()).encode())
                os.read(waited, 1)  # until process 1 has taken the listener
            process.execute()
        except BaseException as error:
            status = error.status if isinstance(error, StartError) else EXIT_EXEC
            with contextlib.suppress(OSError):
                os.write(output, f"{unit.name}: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(tell)
    os.close(waited)
    number = os.read(told, 16)  # nothing once it has run its program, or could not
    listener = None
    try:
        listener = kernel.descriptor_of(pid, int(number)) if number else None
    except OSError as error:  # without its guard it must not run
        os.write(output, f"{unit.name}: IPAddressDeny= needs {error}\n".encode())
        os.kill(pid, signal.SIGKILL)
    os.close(told)
    os.close(release)
    return Started(pid, listener)


class StartError(Exception):
    """Why a process was not run, in systemd's words, and its exit status for that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Process:
    """What a new process does to itself before it runs the unit's program."""

    def __init__(self, unit: Unit, command: Command, around: Surroundings) -> None:
        self._unit, self._command, self._around = unit, command, around

    def surround(self, journal: int) -> None:
        """Everything but the last filter and the program. Raises StartError."""
        unit = self._unit
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in _OF_INIT:
            signal.signal(number, signal.SIG_DFL)
        self._connect(journal)
        _set_limits(unit)
        if not self._command.privileged and confine.is_confined(unit):
            try:
                confine.confine(unit, self._around.identity, self._around.view)
            except OSError as error:
                raise StartError(EXIT_NAMESPACE, f"Failed to set up namespaces: {error}") from error
        self._enter_directory()
        if not self._command.privileged:
            assume(unit, self._around.identity)
            seccomp.restrict(unit)

    def execute(self) -> None:
        """Run the program. Raises StartError."""
        os.umask(int(self._unit.value("UMask", "0022"), 8))
        argv = self._command.expand(self._around.environment)
        try:
            os.execvpe(argv[0], argv, self._around.environment)
        except OSError as failure:
            message = f"Failed to execute {argv[0]}: {failure.strerror}"
            raise StartError(EXIT_EXEC, message) from failure

    def _connect(self, journal: int) -> None:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(journal, 1)
        os.dup2(journal, 2)
        try:
            out = _open_output(self._unit.value("StandardOutput", "journal"), journal)
            error_to = self._unit.value("StandardError", "inherit")
            error = out if error_to == "inherit" else _open_output(error_to, journal)
        except OSError as failure:
            message = f"Failed to set up standard output: {failure.strerror}"
            raise StartError(EXIT_STDOUT, message) from failure
        os.dup2(error, 2)
        os.dup2(out, 1)

    def _enter_directory(self) -> None:
        directory = self._unit.value("WorkingDirectory", "/")
        try:
            os.chdir("/root" if directory == "~" else directory.lstrip("-"))
        except OSError as failure:
            if not directory.startswith("-"):
                message = f"Changing to the requested working directory failed: {failure}"
                raise StartError(EXIT_CHDIR, message) from failure


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
        resource.setrlimit(limit, (wanted, wanted))
