"""findings.yaml: everything that `mayfly doctor` may find, in words."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from mayfly.doctor.finding import Finding

TABLE = Path(__file__).with_name("findings.yaml")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A row. fix: what --fix does about it, or ""."""

    id: str
    check: str
    meaning: str
    remedy: str
    grave: bool = True
    fix: str = ""

    def finding(self, found: str, subject: str = "", **words: str) -> Finding:
        """found: what was seen. words: what the row's texts leave open; KeyError without one."""
        return Finding(
            self.id,
            self.meaning.format(**words),
            self.remedy.format(**words),
            found,
            self.grave,
            subject,
        )


@cache
def kinds() -> dict[str, Kind]:
    """By id, in the table's order."""
    return {row["id"]: Kind(**row) for row in yaml.safe_load(TABLE.read_text())}


def kind(id_: str) -> Kind:
    return kinds()[id_]
