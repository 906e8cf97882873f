"""docs/overview.md draws what the code does."""

import re
from itertools import pairwise

import pytest

from mayfly import idle
from startup.run import SESSION
from tests.conftest import ROOT
from tests.docs.pages import blocks, name, pages

OVERVIEW = ROOT / "docs/overview.md"
# Those that only a seed or a probe has.
OTHERS_OWN = {"seeding", "seeded", "probed"}


def drawn(text: str, first: str) -> str:
    """The one drawing whose first lines hold that."""
    found = [block.body for block in blocks(text) if first in block.body]
    assert len(found) == 1, first
    return found[0]


def arrows(drawing: str) -> set[tuple[str, str]]:
    """Each arrow of a flowchart without texts; chains taken apart."""
    chains = [re.split(r"\s+-->\s+", line.strip()) for line in drawing.splitlines()]
    return {pair for chain in chains for pair in pairwise(chain)}


def test_life_has_every_phase_of_a_session():
    """A phase that is not drawn is one that the reader of `mayfly status` cannot place."""
    drawing = drawn(OVERVIEW.read_text(), "stateDiagram-v2")
    ends = re.findall(r"^ +(\S+) --> (\w+|\[\*\])", drawing, re.MULTILINE)

    assert {end for pair in ends for end in pair} - {"[*]"} == idle.PHASES - OTHERS_OWN


def test_stages_wait_for_one_another_as_drawn():
    """The drawing is the graph that startup/run.py runs."""
    drawing = drawn(OVERVIEW.read_text(), "ram --> config")

    assert arrows(drawing) == {(before, stage.name) for stage in SESSION for before in stage.after}


@pytest.mark.parametrize("page", [p for p in pages() if "```mermaid" in p.read_text()], ids=name)
def test_drawings_begin_as_github_knows_them(page):
    """GitHub shows a red box for what it cannot parse; the rest was looked at in a browser."""
    kinds = [b.body.split(maxsplit=1)[0] for b in blocks(page.read_text()) if b.lang == "mermaid"]

    assert kinds
    assert set(kinds) <= {"flowchart", "stateDiagram-v2", "sequenceDiagram"}
