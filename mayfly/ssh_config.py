"""Host entries for editors: a file a session below ~/.ssh/mayfly, which ~/.ssh/config includes."""

import os
from collections.abc import Sequence
from pathlib import Path

from mayfly.errors import FailedError

FOLDER = ".ssh/mayfly"
INCLUDE = f"Include ~/{FOLDER}/*.conf\n"
"""Ahead of all else in ~/.ssh/config: below a Host it would hold for that one only."""
LEFT_OUT = ("StrictHostKeyChecking",)


def entry_path(session: str) -> Path:
    return Path.home() / FOLDER / f"{session}.conf"


def alias(session: str) -> str:
    """What an editor, or ssh, is told to go to."""
    return f"mayfly-{session}"


def entry(session: str, line: Sequence[str]) -> str:
    """The Host entry for the ssh command that gcloud would run. FailedError if it is none."""
    rest = list(line[1:])
    lines = [f"Host {alias(session)}"]
    address = ""
    while rest:
        word = rest.pop(0)
        if word == "-i" and rest:
            lines.append(f'  IdentityFile "{rest.pop(0)}"')
        elif word == "-o" and rest:
            lines += option(rest.pop(0))
        elif not word.startswith("-"):
            address = word
    user, at, host = address.partition("@")
    if not at:
        raise FailedError(
            f"gcloud's ssh command names no user@host: {' '.join(line)}",
            "Nothing was written.",
            "Try: gcloud version   (this mayfly was tried with 526)",
        )
    lines += [f"  HostName {host}", f"  User {user}"]
    # gcloud says "no" before the first contact: the key that is met then counts from there on.
    lines.append("  StrictHostKeyChecking accept-new")
    return "\n".join(lines) + "\n"


def option(text: str) -> list[str]:
    """`-o Name=value` or `-o Name value` as a line."""
    at = min((i for i in (text.find("="), text.find(" ")) if i > 0), default=len(text))
    name, value = text[:at], text[at + 1 :]
    if name in LEFT_OUT:
        return []
    return [f'  {name} "{value}"' if name == "UserKnownHostsFile" else f"  {name} {value}"]


def included() -> bool:
    """Whether ~/.ssh/config reads our entries already."""
    config = Path.home() / ".ssh/config"
    return config.is_file() and INCLUDE.strip() in config.read_text().splitlines()


def write(session: str, text: str) -> Path:
    """Put the entry where ssh finds it; what the user has written stays below it."""
    path = entry_path(session)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(path, text)
    if not included():
        config = Path.home() / ".ssh/config"
        replace(config, INCLUDE + (config.read_text() if config.is_file() else ""))
    return path


def remove(session: str) -> bool:
    """Take the entry away, and with the last one our line. False: there was none."""
    path = entry_path(session)
    if not path.is_file():
        return False
    path.unlink()
    if not any(path.parent.glob("*.conf")) and included():
        config = Path.home() / ".ssh/config"
        lines = config.read_text().splitlines(keepends=True)
        replace(config, "".join(line for line in lines if line.strip() != INCLUDE.strip()))
    return True


def replace(path: Path, text: str) -> None:
    """A file of the owner's alone, whole or not at all; a link stays a link."""
    path = path.resolve()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.touch(mode=0o600)
    scratch.write_text(text)
    scratch.replace(path)
