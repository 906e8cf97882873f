"""`python -m mayfly.doctor.page`: the tables of docs/doctor.md, made from the doctor's own."""

from collections.abc import Iterable, Sequence

from mayfly.doctor.kinds import kinds
from mayfly.doctor.log import signs

MARK = "<!-- made by: python -m mayfly.doctor.page -->"


def tables() -> str:
    """Both tables, as Markdown."""
    found = (
        (f"`{k.id}`", k.check, k.meaning, code(k.remedy), k.fix or "" if k.grave else "note")
        for k in kinds().values()
    )
    seen = ((f"`{s.id}`", s.meaning, code(s.remedy)) for s in signs())
    return "\n\n".join(
        (
            MARK,
            "## In a project, and at a desk",
            table(("id", "check", "what it means", "what to paste", "`--fix`"), found),
            "## In a log",
            table(("id", "what it means", "what to paste"), seen),
        )
    )


def code(remedy: str) -> str:
    """A command as code, what explains it as text."""
    command, gap, more = remedy.partition("   ")
    return f"`{command}`{' ' if gap else ''}{more}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    print(tables())
