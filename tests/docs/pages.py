"""The documentation as Markdown has it: blocks, code in sentences, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<lang>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+?)\s*$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block. mark: the comment right above it; "" without one."""

    mark: str
    lang: str
    body: str


def pages() -> list[Path]:
    """Every page; raw logs are none."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]
    return sorted(page for page in found if "raw" not in page.parts)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    return [Block(m["mark"] or "", m["lang"], m["body"]) for m in FENCE.finditer(text)]


def prose(text: str) -> str:
    """What is left without the blocks."""
    return FENCE.sub("", text)


def codes(text: str) -> list[str]:
    """Code in sentences and tables."""
    return [code.replace(r"\|", "|") for code in CODE.findall(prose(text))]


def links(text: str) -> list[str]:
    """Targets on this side of the net. Code holds none."""
    found = [match["target"] for match in LINK.finditer(CODE.sub("", prose(text)))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    return set(_slugs(HEADING.findall(prose(text))))


def _slugs(headings: list[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for heading in headings:
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
