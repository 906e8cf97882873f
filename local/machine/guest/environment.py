"""The environment that systemd starts services with, from everywhere it takes it."""

import re
import shlex
import subprocess
from pathlib import Path

from units import logical_lines

ETC, RUN = Path("/etc/systemd"), Path("/run/systemd")
GENERATORS = "system-environment-generators"
NAME = re.compile(r"[A-Za-z_]\w*")
# Of systemd-system.conf(5), what images set. Another is refused: it would do nothing here.
MANAGER = frozenset(
    f"Default{name}"
    for name in ("Environment", "LimitNOFILE", "LimitMEMLOCK", "TimeoutStartSec", "TimeoutStopSec")
)
_GENERATOR_LIMIT_S = 10


class ManagerEnvironment:
    """image: what the image's own variables are. `set` and `unset` are systemctl's."""

    def __init__(self, image: dict[str, str]) -> None:
        self._image, self._client = dict(image), dict[str, str]()
        self._own: dict[str, str] = {}

    def reload(self) -> list[str]:
        """Read configuration and generators again; returns systemd's words about what is wrong."""
        problems: list[str] = []
        self._own = default_environment(problems)
        self._own |= generated({**self._image, **self._own}, problems)
        return problems

    def whole(self) -> dict[str, str]:
        return {**self._image, **self._own, **self._client}

    def set(self, pairs: list[str]) -> str:
        """ "" or what is wrong with one of them: then nothing is set."""
        for pair in pairs:
            name, equals, _ = pair.partition("=")
            if not equals or not NAME.fullmatch(name):
                return "Failed to set environment: Invalid environment assignments"
        self._client |= dict(pair.split("=", 1) for pair in pairs)
        return ""

    def unset(self, names: list[str]) -> str:
        """As the real one: only what `set` has set goes; defaults and generators' stay."""
        for name in names:
            if not NAME.fullmatch(name.partition("=")[0]):
                return "Failed to unset environment: Invalid environment variable names or values"
        for name in names:
            key, equals, value = name.partition("=")
            if not equals or self._client.get(key) == value:
                self._client.pop(key, None)
        return ""


def default_environment(problems: list[str]) -> dict[str, str]:
    """DefaultEnvironment= of system.conf and its drop-ins; an empty one forgets those before."""
    drop_ins = [p for base in (RUN, ETC) for p in (base / "system.conf.d").glob("*.conf")]
    found: dict[str, str] = {}
    for path in (ETC / "system.conf", *sorted(drop_ins, key=lambda path: path.name)):
        if not path.exists():
            continue
        for number, line in logical_lines(path.read_text()):
            key, _, value = (part.strip() for part in line.partition("="))
            if line == "[Manager]":
                continue
            if key not in MANAGER:
                problems.append(f"{path}:{number}: Unknown key name '{key}', ignoring.")
            elif key == "DefaultEnvironment":
                words = split(value, f"{path}:{number}", problems)
                found = {**found, **words} if value else {}
    return found


def split(value: str, where: str, problems: list[str]) -> dict[str, str]:
    try:
        words = shlex.split(value)
    except ValueError:
        problems.append(f"{where}: Invalid syntax, ignoring: {value}")
        return {}
    return dict(word.split("=", 1) for word in words if NAME.fullmatch(word.partition("=")[0]))


def generated(environment: dict[str, str], problems: list[str]) -> dict[str, str]:
    """What the environment generators print, each after the one before it."""
    found: dict[str, str] = {}
    paths = [p for base in (RUN, ETC) for p in (base / GENERATORS).glob("*")]
    for path in sorted(paths, key=lambda path: path.name):
        try:
            done = subprocess.run(
                [path],
                env={**environment, **found},
                capture_output=True,
                text=True,
                check=True,
                timeout=_GENERATOR_LIMIT_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            problems.append(f"{path} failed: {error}")
            continue
        for line in done.stdout.splitlines():
            name, equals, value = line.partition("=")
            if equals and NAME.fullmatch(name):
                found[name] = value
    return found
