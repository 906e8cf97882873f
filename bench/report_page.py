"""The report's HTML: one file, no script, nothing from elsewhere; by day, by night and on paper."""

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d5d9de; --dim: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #14171b; --line: #3a4149; --dim: #a3adb8; }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
  max-width: 68rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; color: var(--ink); }
figcaption, caption { color: var(--dim); text-align: left; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
th { overflow-wrap: normal; } td:first-child { white-space: nowrap; }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #999; --dim: #333; }
  body { max-width: none; padding: 0; font-size: 11px; }
  section { break-inside: avoid; } .scroll { overflow: visible; }
}
"""


def page(title: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """sections: a heading and its parts, which are HTML."""
    body = "\n".join(
        f"<section>\n<h2>{escape(heading)}</h2>\n{chr(10).join(parts)}\n</section>"
        for heading, parts in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table(caption: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Wide ones scroll by themselves; the keyboard reaches them."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def picture(svg: str, key: str, label: str) -> str:
    """A drawing with its label; the same figures are in a table of the page."""
    named = svg.replace("<svg", f'<svg role="img" aria-labelledby="{key}-caption"', 1)
    return (
        f'<figure>\n{named}\n<figcaption id="{key}-caption">{escape(label)}</figcaption>\n</figure>'
    )
