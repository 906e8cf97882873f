"""What the pages point to is there: other pages, headings, files of the repository."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import anchors, codes, links, name, pages

ROOMS = "components|startup|reaper|profiles|mayfly|bench|local|tools|tests|docs|\\.github"
# What ends otherwise is an object in a bucket.
PATH = re.compile(rf"(?:{ROOMS})/[\w./*-]*(?:/|\.(?:py|sh|yaml|yml|md|service|env|svg|png))")
PAGES = pages()
DECISIONS = ROOT / "docs/decisions"
PARTS = ("**Context.**", "**Decision.**", "**Cost.**", "**What would change our mind.**")


def dead(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for target in links(text):
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        if not to.exists() or not to.is_relative_to(ROOT):
            found.append(target)
            continue
        there = text if to == page else to.read_text() if anchor else ""
        if anchor and anchor not in anchors(there):
            found.append(target)
    return found


def absent(text: str) -> list[str]:
    """The files that a page names and that nobody has."""
    named = [code for code in codes(text) if PATH.fullmatch(code)]
    return [path for path in named if not any(ROOT.glob(path.rstrip("/")))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    """A dead link is the first thing that a newcomer meets."""
    assert dead(page, page.read_text()) == []


@pytest.mark.parametrize("target", ["nowhere.md", "README.md#no-such-heading", "../../etc/passwd"])
def test_link_check_turns_red_when_a_link_is_dead(target):
    """The twin; the last one exists, and not for who reads this on GitHub."""
    assert dead(ROOT / "README.md", f"see [there]({target})") == [target]


def test_link_check_follows_a_heading_as_github_spells_it():
    """Punctuation goes, spaces become hyphens, a second one of a name is numbered."""
    text = "# What is `real`, and what not?\n## Again\n## Again\n"

    assert anchors(text) == {"what-is-real-and-what-not", "again", "again-1"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_a_page_names_exist(page):
    """A file that was renamed leaves pages behind that send people astray."""
    assert absent(page.read_text()) == []


def test_file_check_turns_red_when_a_file_is_gone():
    """The twin."""
    text = "`mayfly/idle.py`, `tests/faults/`, `local/patterns/*.yaml` and `mayfly/idler.py`"

    assert absent(text) == ["mayfly/idler.py"]


def test_every_page_is_found_from_the_readme():
    """A page that nothing links is read by nobody."""
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in links(page.read_text()):
            to = (page.parent / target.partition("#")[0]).resolve()
            left += sorted(to.glob("*.md")) if to.is_dir() else [to]

    assert {name(page) for page in PAGES if page.is_relative_to(ROOT / "docs")} <= {
        name(page) for page in seen
    }


def test_every_decision_is_listed_once_and_says_the_four_things():
    """Two decisions of one number, or one without its cost, are found out here."""
    files = sorted(DECISIONS.glob("0*.md"))
    listed = re.findall(r"^- \[\d+\]\((.+?)\): ", (DECISIONS / "README.md").read_text(), re.M)

    assert listed == [file.name for file in files]
    assert len({file.name[:4] for file in files}) == len(files) > 10
    for file in files:
        lacks = [part for part in PARTS if part not in file.read_text()]
        assert lacks == [], file.name
