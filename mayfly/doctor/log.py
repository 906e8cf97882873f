"""What a pasted log shows: Pulumi's refusals, Google's, and the signs of signs.yaml. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from mayfly import capacity, vms
from mayfly.cloud.denied import denial
from mayfly.doctor.finding import Finding
from mayfly.ladder.remedies import remedy
from mayfly.launch_words import vm_errors

TABLE = Path(__file__).with_name("signs.yaml")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# The first word that says how grave a line is; in a line of ours another program's may follow.
LEVEL = re.compile(r"\b(DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL|CRITICAL)\b")
PROGRESS = re.compile(r"\bWARN try \d+ of \d+, |Waiting for cache lock: ")
REFUSED = re.compile(r"Error (?:creating instance|waiting for (?:instance|status))\b")
GOOGLES = re.compile(r"\b(?:Error )?(?:400|403|404|412)\b|[Pp]ermission denied on resource project")
NO_VM = "No VM was made; nothing is billed."
MAYBE_A_VM = "A VM may be there all the same, and cost money."


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A row of signs.yaml. sign: patterns, one of which a line must hold. grave: as a Finding's."""

    id: str
    sign: tuple[re.Pattern[str], ...]
    meaning: str
    remedy: str
    catch_all: bool = False
    grave: bool = True

    def read(self, text: str) -> Finding | None:
        for pattern in self.sign:
            if found := pattern.search(text):
                words = {key: value or key.upper() for key, value in self._words(found).items()}
                return Finding(
                    self.id,
                    self.meaning.format(**words),
                    self.remedy.format(**words),
                    line_at(text, found.start()),
                    self.grave,
                )
        return None

    def _words(self, found: re.Match[str]) -> Mapping[str, str | None]:
        """Every group that any of the row's patterns knows; None where this one did not see it."""
        known = dict.fromkeys(name for pattern in self.sign for name in pattern.groupindex)
        return known | found.groupdict()


@cache
def signs() -> tuple[Sign, ...]:
    """The table, in its order."""
    rows = yaml.safe_load(TABLE.read_text())
    return tuple(
        Sign(**{**row, "sign": tuple(re.compile(p, re.M) for p in row["sign"])}) for row in rows
    )


def diagnose(text: str) -> Finding | None:
    """What to mend first, by a log of a VM or of `pulumi up`; None where nothing known is wrong."""
    return next(iter(troubles(text)), None)


def troubles(text: str) -> list[Finding]:
    """Every trouble that a log shows, causes before their consequences."""
    kept = "\n".join(line for line in COLOURS.sub("", text).splitlines() if is_grave(line))
    found: dict[str, Finding] = {}
    for finding in (*launch(kept), *denials(kept), *by_signs(kept)):
        found.setdefault(finding.id, finding)
    return list(found.values())


def is_grave(line: str) -> bool:
    """False for progress: a word in it ("out of memory: 0") is no sign."""
    level = LEVEL.search(line)
    mild = level is not None and level[1] in ("DEBUG", "INFO")
    return not mild and not PROGRESS.search(line)


def launch(text: str) -> Iterator[Finding]:
    """Why a VM was refused, as Pulumi prints it, read by the ladder's own rules."""
    start = REFUSED.search(text)
    said = vm_errors(text) or (text[start.start() :].partition("\nResources:")[0] if start else "")
    verdict = capacity.classify(said)
    if not said or not verdict.id:
        return
    line = line_at(text, start.start()) if start else one_line(said)
    sentence = verdict.reason[0].upper() + verdict.reason[1:]
    bill = MAYBE_A_VM if verdict.action == "look_first" else NO_VM
    yield Finding(verdict.id, f"{sentence}. {bill}", launch_remedy(verdict, said), line)


def launch_remedy(verdict: capacity.Verdict, said: str) -> str:
    known = denial(said)
    if known and known[0] == verdict.id:
        return known[2]
    if verdict.action in ("next_zone", "next_region") and not verdict.lasting:
        zones = f" --zone {','.join(verdict.zones)}" if verdict.zones else " --retry-for 2h"
        return f"mayfly up PROFILE{zones}"
    if verdict.action == "look_first":
        return "mayfly status   (says whether a VM is there, and what it costs)"
    return remedy(verdict.id).removeprefix("Try: ")


def denials(text: str) -> Iterator[Finding]:
    """What Google says of the whole project, wherever it says it."""
    for line in text.splitlines():
        known = denial(line.strip()) if GOOGLES.search(line) else None
        if known:
            yield Finding(known[0], known[1], known[2], one_line(line))


def by_signs(text: str) -> Iterator[Finding]:
    """The rows that the text holds; a catch-all only where no other row does."""
    found = [(sign, finding) for sign in signs() if (finding := sign.read(text))]
    clear = any(not sign.catch_all for sign, _ in found)
    yield from (finding for sign, finding in found if not (clear and sign.catch_all))


def line_at(text: str, at: int) -> str:
    end = text.find("\n", at)
    return one_line(text[text.rfind("\n", 0, at) + 1 : end if end >= 0 else None])


def one_line(text: str) -> str:
    """As a terminal may be given it."""
    return vms.printable(text)
