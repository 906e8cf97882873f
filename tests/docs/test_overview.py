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

NODE = r'\w+(?:\["[^"]+"\]|\[\("[^"]+"\)\])?'
ARROW = r'(?:-->|---|~~~|-- "[^"]+" -->|-\. "[^"]+" \.->)'
FLOW = re.compile(rf'{NODE}(?: {ARROW} {NODE})*|subgraph \w+(?:\["[^"]+"\])?|end')
FORMS = {
    "flowchart LR": FLOW,
    "flowchart TB": FLOW,
    "stateDiagram-v2": re.compile(r"(?:\w+|\[\*\]) --> (?:\w+|\[\*\])(?:: [^:;#]+)?"),
    "sequenceDiagram": re.compile(
        r"participant \w as [^:;#]+|loop [^:;#]+|end|Note over \w(?:,\w)?: [^;#]+|\w->>\w: [^;#]+"
    ),
}
OPENS = re.compile(r"subgraph |loop ")


def drawn(text: str, first: str) -> str:
    """The one drawing whose first lines hold that."""
    found = [block.body for block in blocks(text) if first in block.body]
    assert len(found) == 1, first
    return found[0]


def arrows(drawing: str) -> set[tuple[str, str]]:
    """Each arrow of a flowchart without texts; chains taken apart."""
    chains = [re.split(r"\s+-->\s+", line.strip()) for line in drawing.splitlines()]
    return {pair for chain in chains for pair in pairwise(chain)}


def strange(drawing: str) -> list[str]:
    """Lines of a drawing in other forms than those that were seen to be drawn."""
    first, *lines = [line.strip() for line in drawing.splitlines() if line.strip()]
    form = FORMS.get(first)
    if form is None:
        return [first]
    found = [line for line in lines if not form.fullmatch(line)]
    missing = sum(bool(OPENS.match(line)) for line in lines) - lines.count("end")
    return [*found, f"{missing} end too few"] if missing else found


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
def test_drawings_keep_to_what_github_is_known_to_draw(page):
    """GitHub shows a red box for what it cannot parse. These forms were seen in a browser."""
    drawings = [block.body for block in blocks(page.read_text()) if block.lang == "mermaid"]

    assert drawings
    assert [line for drawing in drawings for line in strange(drawing)] == []


@pytest.mark.parametrize(
    ("drawing", "line"),
    [
        ("pie\n    a --> b", "pie"),
        ('flowchart LR\n    a["never closed]', 'a["never closed]'),
        ("flowchart LR\n    a -> b", "a -> b"),
        ("flowchart LR\n    subgraph s\n    a --> b", "1 end too few"),
        ("stateDiagram-v2\n    a --> b c", "a --> b c"),
        ("sequenceDiagram\n    a->b: said", "a->b: said"),
    ],
)
def test_drawing_check_turns_red_when_a_drawing_is_broken(drawing, line):
    """The twin."""
    assert line in strange(drawing)
