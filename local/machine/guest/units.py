"""Reads unit files as systemd does, but refuses what it does not know."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

SEARCH = ("/etc/systemd/system", "/run/systemd/system", "/var/lib/machine/units")
TARGETS = frozenset(
    f"{name}.target"
    for name in (
        *("basic", "default", "graphical", "local-fs", "multi-user", "network", "sysinit"),
        *("network-online", "network-pre", "nss-lookup", "remote-fs", "time-sync", "shutdown"),
    )
)
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What is carried out. The rest of what systemd knows is refused, so that no unit seems to work
# here and does not on a VM.
UNIT = _names(
    """
    Description Documentation After Before Wants Requires BindsTo PartOf ConditionPathExists
    StartLimitIntervalSec StartLimitBurst OnFailure DefaultDependencies FailureAction
    SuccessAction
    """
)
SERVICE = _names(
    """
    Type ExecStartPre ExecStart ExecStartPost ExecStop ExecStopPost Environment
    EnvironmentFile UnsetEnvironment WorkingDirectory User DynamicUser Restart
    RestartSec RestartPreventExitStatus SuccessExitStatus TimeoutStartSec TimeoutStopSec
    TimeoutSec KillMode KillSignal SendSIGKILL StandardOutput StandardError StandardInput
    SyslogIdentifier UMask RemainAfterExit RuntimeDirectory StateDirectory CacheDirectory
    LogsDirectory RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode LogsDirectoryMode
    RuntimeDirectoryPreserve LoadCredential LimitNOFILE LimitMEMLOCK LimitCORE LimitNPROC
    LimitSTACK ProtectSystem ProtectHome ReadOnlyPaths ReadWritePaths InaccessiblePaths
    PrivateTmp PrivateMounts NoNewPrivileges CapabilityBoundingSet IPAddressAllow IPAddressDeny
    RestrictAddressFamilies RestrictNamespaces RestrictSUIDSGID SystemCallArchitectures
    ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups
    TasksMax MemoryMax OOMScoreAdjust
    """
)
# Taken with these values only: what they ask for is so already, or cannot be had by anybody here.
VALUES = {
    "User": ("root", "0"),
    "TasksMax": ("infinity",),
    "MemoryMax": ("infinity",),
    "RestrictNamespaces": ("yes", "no", "true", "false"),
    "SystemCallArchitectures": ("native",),
    "StandardInput": ("null",),
}
INSTALL = _names(
    """
    WantedBy RequiredBy Also Alias
    """
)
KNOWN = {"Unit": UNIT, "Service": SERVICE, "Install": INSTALL}
SERVICE_TYPES = ("simple", "exec", "oneshot")
RESTARTS = (
    *("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"),
)
KILL_MODES = ("control-group", "mixed", "process", "none")


class BadUnitError(Exception):
    """The unit cannot be used; the message is systemd's line for the journal."""


@dataclass
class Unit:
    """A unit's text: section -> directive -> values in order."""

    name: str
    path: Path
    sections: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    modified: float = 0.0

    def values(self, section: str, key: str) -> list[str]:
        """All values of a directive; an empty assignment forgets those before it."""
        kept: list[str] = []
        for value in self.sections.get(section, {}).get(key, []):
            kept = [*kept, value] if value else []
        return kept

    def value(self, key: str, default: str = "", section: str = "Service") -> str:
        """The last value."""
        values = self.values(section, key)
        return values[-1] if values else default

    def words(self, section: str, key: str) -> list[str]:
        return [word for value in self.values(section, key) for word in value.split()]

    def flag(self, key: str, section: str = "Service") -> bool:
        return self.value(key, "no", section).lower() in ("yes", "true", "1", "on")

    def seconds(self, key: str, default: float, section: str = "Service") -> float:
        text = self.value(key, section=section)
        return seconds(text) if text else default


def seconds(text: str) -> float:
    """A time span: `90`, `1min 30s`, `infinity`."""
    if text == "infinity":
        return float("inf")
    total, rest = 0.0, text.strip()
    for number, unit in re.findall(r"([\d.]+)\s*([a-z]*)", rest):
        if unit and unit not in SECONDS:
            raise BadUnitError(f"Failed to parse time value, ignoring: {text}")
        total += float(number) * SECONDS.get(unit, 1)
    if not re.fullmatch(r"([\d.]+\s*[a-z]*\s*)+", rest):
        raise BadUnitError(f"Failed to parse time value, ignoring: {text}")
    return total


def find(name: str) -> Path | None:
    """Where the unit file lies, the administrator's first."""
    for folder in SEARCH:
        path = Path(folder, name)
        if path.exists():
            return path
    return None


def load(name: str) -> Unit | None:
    """The unit with its drop-ins; None when there is none. Raises BadUnitError."""
    path = find(name)
    if path is None:
        return None
    unit = Unit(name, path, modified=path.stat().st_mtime)
    read_into(unit, path)
    for folder in SEARCH:
        for drop_ins in ("service.d", f"{name}.d"):
            for extra in sorted(Path(folder, drop_ins).glob("*.conf")):
                read_into(unit, extra)
    check(unit)
    return unit


def read_into(unit: Unit, path: Path) -> None:
    section = ""
    for number, line in logical_lines(path.read_text()):
        where = f"{path}:{number}"
        if line.startswith("["):
            section = line.strip("[]")
            if section not in KNOWN and not section.startswith("X-"):
                raise BadUnitError(f"{where}: Unknown section '{section}'. Ignoring.")
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise BadUnitError(f"{where}: Missing '=', ignoring line.")
        if section.startswith("X-"):
            continue
        if key not in KNOWN.get(section, ()):
            raise BadUnitError(f"{where}: Unknown key name '{key}' in section '{section}'.")
        if value not in VALUES.get(key, (value,)):
            raise BadUnitError(f"{where}: this machine cannot carry out {key}={value}")
        unit.sections.setdefault(section, {}).setdefault(key, []).append(specify(unit, value))


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines without comments, continuations joined, with their numbers."""
    lines: list[tuple[int, str]] = []
    whole, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.lstrip().startswith(("#", ";")) or (not raw.strip() and not whole):
            continue
        start = start if whole else number
        if raw.endswith("\\"):
            whole += raw[:-1].strip() + " "
            continue
        whole += raw.strip()
        if whole:
            lines.append((start, whole))
        whole = ""
    return lines


def specify(unit: Unit, value: str) -> str:
    """Percent specifiers."""
    prefix = unit.name.rpartition(".")[0]
    meaning = {
        "n": unit.name,
        "N": prefix,
        "p": prefix.partition("@")[0],
        "i": prefix.partition("@")[2],
        "t": "/run",
        "S": "/var/lib",
        "C": "/var/cache",
        "L": "/var/log",
        "d": f"/run/credentials/{unit.name}",
        "%": "%",
    }

    def replace(match: re.Match[str]) -> str:
        if match[1] not in meaning:
            raise BadUnitError(f"{unit.path}: Failed to resolve specifiers in {value!r}.")
        return meaning[match[1]]

    return re.sub(r"%(.)", replace, value)


def check(unit: Unit) -> None:
    """What systemd calls a bad unit file setting."""
    if not unit.name.endswith(".service"):
        return
    kind = unit.value("Type", "simple")
    starts = unit.values("Service", "ExecStart")
    for key, allowed in (
        ("Type", SERVICE_TYPES),
        ("Restart", RESTARTS),
        ("KillMode", KILL_MODES),
    ):
        value = unit.value(key)
        if value and value not in allowed:
            raise BadUnitError(f"{unit.path}: Failed to parse {key}=, ignoring: {value}")
    if not starts and kind != "oneshot":
        raise BadUnitError(f"{unit.name}: Service has no ExecStart=, ExecStop=. Refusing.")
    if len(starts) > 1 and kind != "oneshot":
        raise BadUnitError(
            f"{unit.name}: Service has more than one ExecStart= setting, "
            "which is only allowed for Type=oneshot services. Refusing."
        )
    if kind == "oneshot" and unit.value("Restart", "no") in ("always", "on-success"):
        raise BadUnitError(
            f"{unit.name}: Service has Restart= set to either always or on-success, "
            "which isn't allowed for Type=oneshot services. Refusing."
        )
    for key in ("ExecStartPre", "ExecStart", "ExecStartPost", "ExecStop", "ExecStopPost"):
        for value in unit.values("Service", key):
            command = Command.parse(value)
            program = command.argv[0] if command.argv else ""
            if not program or ("/" in program and not program.startswith(("/", "$"))):
                raise BadUnitError(
                    f"{unit.path}: Neither a valid executable name nor an absolute path: {value}"
                )
    for key in ("RestartSec", "TimeoutStartSec", "TimeoutStopSec", "TimeoutSec"):
        unit.seconds(key, 0)


@dataclass(frozen=True)
class Command:
    """One Exec line."""

    argv: list[str]
    may_fail: bool
    privileged: bool  # outside all that confines the unit

    @classmethod
    def parse(cls, text: str) -> "Command":
        body = text.lstrip("-+")
        prefix = text[: len(text) - len(body)]
        try:
            return cls(shlex.split(body), "-" in prefix, "+" in prefix)
        except ValueError as error:
            raise BadUnitError(f"Invalid command line: {text}: {error}") from error

    def expand(self, environment: dict[str, str]) -> list[str]:
        """${NAME} inside a word; $NAME as a word of its own is split at blanks."""
        words: list[str] = []
        for word in self.argv:
            if re.fullmatch(r"\$[A-Za-z_]\w*", word):
                words += environment.get(word[1:], "").split()
                continue
            filled = re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match[1], ""), word)
            words.append(filled.replace("$$", "$"))
        return words


def environment_file(text: str) -> dict[str, str]:
    """NAME=value lines as EnvironmentFile= reads them."""
    found: dict[str, str] = {}
    for _, line in logical_lines(text):
        name, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            parts = shlex.split(value, posix=True) if value[:1] in "\"'" and value else [value]
            found[name.strip()] = parts[0] if parts else ""
    return found
