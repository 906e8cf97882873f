"""Where a result goes: the JSON, the page beside it, each row's log; for the project's, README."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.faults import page

RESULT = ROOT / "docs/results/teardown.json"
README = ROOT / "README.md"
BEGIN, END = (f"<!-- teardown: {word}, by `make faults` -->" for word in ("begins", "ends"))
README_WIDTH = 115


def publish(said: Mapping[str, Any], logs: Path, path: Path = RESULT) -> None:
    """Write the result; what was played before and not now stays as it was.

    logs: where this result's logs lie, each row's under its own `logs`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = _raw(path)
    kept.mkdir(parents=True, exist_ok=True)
    when = {key: said[key] for key in page.WHEN}
    fresh = [{**row, **when, "log": _keep(row, logs.parent, kept)} for row in said["scenarios"]]
    whole = merged(json.loads(path.read_text()) if path.exists() else None, said, fresh)
    path.write_text(json.dumps(whole, indent=1) + "\n")
    path.with_suffix(".md").write_text(page.page(whole))
    if path.resolve() == RESULT:
        README.write_text(with_promise(README.read_text(), whole["scenarios"]))


def merged(
    before: Mapping[str, Any] | None, said: Mapping[str, Any], fresh: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The result with these rows anew: all of it, where all of it was played.

    A row that was played by itself says when, and of which code.
    """
    rows = {row["name"]: row for row in fresh}
    names = [row["name"] for row in before["scenarios"]] if before else []
    if before is None or set(names) <= rows.keys():
        return {**said, "scenarios": list(fresh)}
    after = [rows.pop(row["name"], row) for row in before["scenarios"]]
    return {**before, "scenarios": [*after, *rows.values()]}


def with_promise(readme: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """README with the table's worst line between its marks. ValueError where it has none."""
    before, begin, rest = readme.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN} ... {END}")
    text = f"{page.promise(rows)} Fault by fault: [docs/results/teardown.md]({_relative()})."
    return "\n".join([before + BEGIN, *page.wrapped(text, README_WIDTH), END]) + after


def _relative() -> str:
    return RESULT.with_suffix(".md").relative_to(ROOT).as_posix()


def _raw(path: Path) -> Path:
    return path.parent / "raw" / path.stem


def _keep(row: Mapping[str, Any], logs: Path, kept: Path) -> str:
    """All runs of a scenario in one file; its path from the page."""
    there = [name for name in row["logs"] if (logs / name).exists()]
    texts = [f"== {name}\n{(logs / name).read_text()}" for name in there]
    (kept / f"{row['name']}.log").write_text("\n".join(texts).replace(str(ROOT), "."))
    return f"{kept.parent.name}/{kept.name}/{row['name']}.log"
