"""Where the facts about Google's answers are at hand: each of their rows and codes has a test."""

import re

from tests.conftest import SHARED
from tests.unit.test_launch_rows import SEEN

FACTS = SHARED / "facts/gcp.md"
CODE = re.compile(r"\b(?:[A-Z]+_)+[A-Z]+\b")


def section() -> str:
    """What Google answers to a launch, and the retry rule."""
    if not FACTS.exists():
        return ""
    return FACTS.read_text().partition("\n## 5. ")[2].partition("\n## 6. ")[0]


def rows(text: str) -> list[str]:
    """The first column of the table."""
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [cell for cell in cells if cell and cell != "seen" and set(cell) != {"-"}]


if section():

    def test_every_row_of_the_facts_has_a_case():
        """A row that nobody plays is a rule that nobody keeps."""
        found = rows(section())

        assert len(found) >= 8
        assert [r for r in found if not any(r.startswith(s.row) for s in SEEN.values())] == []
        assert [s.row for s in SEEN.values() if not any(r.startswith(s.row) for r in found)] == []

    def test_every_code_of_the_facts_is_played():
        """As Google writes it, somewhere in a case of that row."""
        for row in rows(section()):
            played = " ".join(str(s.error) for s in SEEN.values() if row.startswith(s.row))
            codes = [code for code in CODE.findall(row) if "..." not in code]

            assert [code for code in codes if code not in played] == []
