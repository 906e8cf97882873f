"""docs/runbook.md: each sign in it is really printed, by us or by what the doctor reads."""

import ast
import re
from dataclasses import dataclass
from functools import cache

import pytest

from mayfly.capacity import RULES
from mayfly.doctor.kinds import kinds
from mayfly.doctor.log import signs, troubles
from tests.conftest import ROOT

PAGE = ROOT / "docs/runbook.md"
GAP = "…"
LEAST = 6  # letters that a text must have to say anything
FILLED = "x7"  # what stands for a gap where the doctor reads the line
OURS = ("mayfly", "components", "reaper", "local/machine")
# A launch's trouble is read in Pulumi's frame only.
FRAME = "    error: 1 error occurred:\n    \t* Error waiting for instance to create: {}\n"
EXPANSION = re.compile(r"\$\{[^}]*\}|\$\([^()]*(?:\([^()]*\)[^()]*)*\)|\$\w+|\\")
UNESCAPED = re.compile(r"(?<!\\)\|")
NAMED = re.compile(r"\[([\w-]+)\]\(doctor\.md#[\w-]+\)")


@dataclass(frozen=True)
class Row:
    """signs: as quoted. do: the cell. id: the doctor's; "" where it has none."""

    signs: tuple[str, ...]
    do: str
    id: str


def rows(text: str) -> list[Row]:
    """The rows of every table with the doctor's column."""
    found = []
    for table in re.findall(r"^\| you see .*?(?=^$|\Z)", text, re.MULTILINE | re.DOTALL):
        for line in table.splitlines()[2:]:
            see, _, do, doctor = (cell.strip() for cell in UNESCAPED.split(line.strip("|")))
            named = NAMED.search(doctor)
            quoted = tuple(sign.replace(r"\|", "|") for sign in re.findall(r"`([^`]+)`", see))
            found.append(Row(quoted, do.replace(r"\|", "|"), named[1] if named else ""))
    return found


@cache
def texts() -> tuple[str, ...]:
    """Every text of our code, in one line, with a gap for each value in it."""
    modules = [p for room in (*OURS, "startup") for p in sorted((ROOT / room).rglob("*.py"))]
    found = [text for path in modules for text in strings(path.read_text())]
    for path in sorted((ROOT / "startup").glob("*.sh")):
        found += EXPANSION.sub(GAP, path.read_text()).splitlines()
    found += [kind.meaning for kind in kinds().values()]
    plain = (re.sub(r"\{\w+\}|…+", GAP, text.replace("\n", " ")) for text in found)
    return tuple(text for text in plain if len(literal(text)) >= LEAST)


def literal(text: str) -> str:
    """What is left without the gaps."""
    return re.sub(rf"[\s{GAP}]", "", text)


def strings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else GAP for v in node.values]
            found.append("".join(map(str, parts)))
    return found


def is_ours(sign: str) -> bool:
    """Whether a text of our code says this: word for word, or whole with a value in each gap."""
    if len(literal(sign)) < LEAST:
        return False
    return any(sign in text or is_filled(text, sign) for text in texts())


def is_filled(text: str, sign: str) -> bool:
    parts = text.split(GAP)
    # A quick no, for nearly all.
    if not all(part in sign for part in parts):
        return False
    return bool(re.fullmatch(".+".join(map(re.escape, parts)), sign))


def is_read(sign: str, id_: str) -> bool:
    """Whether the doctor knows a log with this line by that name."""
    line = sign.replace(GAP, FILLED)
    return any(found.id == id_ for text in (line, FRAME.format(line)) for found in troubles(text))


def unknown(found: list[Row]) -> list[str]:
    """Signs that nobody prints, as far as we know."""
    return [
        sign
        for row in found
        for sign in row.signs
        if not is_ours(sign) and not (row.id and is_read(sign, row.id))
    ]


def remedies(id_: str) -> set[str]:
    """The commands that the doctor has for it; none where what was found makes the command."""
    known = [row.remedy for row in (*signs(), *kinds().values()) if row.id == id_]
    commands = {re.sub(r"\{(\w+)\}", lambda m: m[1].upper(), r.partition("   ")[0]) for r in known}
    return commands - {"COMMAND"}


def differing(found: list[Row]) -> list[str]:
    """Rows whose remedy is another than the doctor's."""
    return [
        row.id
        for row in found
        if remedies(row.id) and not any(one in row.do.replace("`", "") for one in remedies(row.id))
    ]


def test_every_sign_is_really_printed():
    """Who pastes what he sees into the page's search must find it."""
    found = rows(PAGE.read_text())

    assert len(found) > 120
    assert unknown(found) == []


@pytest.mark.parametrize(
    "sign", ["The session is a bit tired of …", "no room for … elephants", "…"]
)
def test_sign_check_turns_red_when_nobody_prints_it(sign):
    """The twin."""
    assert unknown([Row((sign,), "`mayfly status`", "weights-no-room")]) == [sign]


def test_every_finding_of_the_doctor_is_in_the_runbook():
    """Its names are what a user searches for."""
    ids = {sign.id for sign in signs()} | set(kinds()) | {rule.id for rule in RULES}

    assert ids - {row.id for row in rows(PAGE.read_text())} == set()


def test_runbook_and_doctor_say_the_same_remedy():
    """Two remedies for one trouble, and one of them is old."""
    assert differing(rows(PAGE.read_text())) == []


def test_remedy_check_turns_red_when_a_remedy_differs():
    """The twin."""
    assert differing([Row((), "`mayfly pray`", "lock-left")]) == ["lock-left"]
