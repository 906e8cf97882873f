"""`mayfly doctor`: what is wrong, what it means, what to paste."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from mayfly.doctor.finding import Finding
from mayfly.errors import MayflyError, WrongInputError
from mayfly.problems import NOTHING_DONE
from mayfly.talk import tell

STDIN = "-"
MOST_BYTES = 8 << 20
"""Of a longer log the end: what a start died of stands there."""
FOUND = 3


def run(profile: str, *, fix: bool, yes: bool, as_json: bool) -> None:
    """Examine the project and this machine. Exit 3 where something grave stays."""
    from mayfly.doctor.examine import Report, examine
    from mayfly.doctor.site import survey
    from mayfly.project import find_project

    if fix and not yes and not sys.stdin.isatty():
        raise WrongInputError(
            "Nobody is here to confirm what --fix does.",
            NOTHING_DONE,
            "Try: mayfly doctor --fix --yes",
        )
    site = survey(find_project(), profile)
    report: Report = examine(site)
    if as_json:
        named = {"project": site.project, "profile": site.profile.name}
        seen = {"findings": told(report.all), "unknown": report.unknown, "fine": report.fine}
        print(json.dumps(named | seen, indent=2))
    else:
        show(report.all)
        for check, why in report.unknown.items():
            print(f"not known: {check}: {why}")
        print(f"fine: {', '.join(report.fine) or 'nothing'}")
    leave(mend(site, report.all, yes) if fix else report.all)


def mend(site: Any, found: Sequence[Finding], yes: bool) -> list[Finding]:
    """Do what is safe about each, after asking; returns those that stay."""
    from mayfly.cloud import connect
    from mayfly.doctor.kinds import kind
    from mayfly.doctor.mend import MENDS

    stays = []
    for finding in found:
        if finding.id not in MENDS:
            stays.append(finding)
            continue
        asked = f"{finding.found} --fix {kind(finding.id).fix}. Do it?"
        if not (yes or typer.confirm(asked, err=True)):
            stays.append(finding)
            continue
        try:
            tell(MENDS[finding.id](site, connect(site.project), finding))
        except MayflyError as error:
            tell(f"{finding.id} stays: {error}")
            stays.append(finding)
    return stays


def read(log: str, *, as_json: bool) -> None:
    """Print what a log shows. Exit 3 where that is something grave."""
    from mayfly.doctor.log import troubles

    found = troubles(text_of(log))
    if as_json:
        print(json.dumps({"log": log, "findings": told(found)}, indent=2))
    elif found:
        show(found)
    else:
        print("Nothing in it that mayfly knows. Try: mayfly doctor, which looks at the project.")
    leave(found)


def text_of(log: str) -> str:
    """What is to be read. WrongInputError where there is nothing."""
    try:
        data = sys.stdin.buffer.read() if log == STDIN else Path(log).read_bytes()
    except OSError as error:
        raise WrongInputError(
            f"--log {log}: {error.strerror or error}.",
            NOTHING_DONE,
            "Try: mayfly logs SESSION | mayfly doctor --log -",
        ) from error
    text = data[-MOST_BYTES:].decode(errors="replace")
    if not text.strip():
        raise WrongInputError(
            f"--log {log}: there is nothing in it.",
            NOTHING_DONE,
            "Try: mayfly logs SESSION | mayfly doctor --log -",
        )
    return text


def told(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in found]


def show(found: Sequence[Finding]) -> None:
    """For people; the first is what to mend first."""
    for finding in found:
        print(f"{finding.id}: {finding.found}")
        print(f"  {finding.meaning}")
        print(f"  Try: {finding.remedy}")


def leave(found: Sequence[Finding]) -> None:
    if any(finding.grave for finding in found):
        raise typer.Exit(FOUND)
