"""The starts as bars on a clock, in one SVG without outside parts. The same data, the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "boot": "#9aa0a6",
    "driver": "#b07aa1",
    "engine": "#f28e2b",
    "weights": "#4e79a7",
    "copy": "#4e79a7",
    "imports": "#edc948",
    "load": "#59a14f",
    "warm-up": "#e15759",
    "graphs": "#e15759",
    "check": "#76b7b2",
}
OTHER = "#c9cdd2"
HAIRLINE_S = 4.0
"""A bar shorter than this would not be seen; it is drawn so long, and its label says the truth."""


def draw(said: dict[str, Any], path: Path) -> None:
    """K2.5 on a3-highgpu-8g above, what came before below, on the same clock."""
    row = next(
        r for r in said["rows"] if (r["profile"], r["machine"]) == ("kimi-k2.5", "a3-highgpu-8g")
    )
    critical = {part["part"] for part in row["critical_path"]}
    matplotlib.rcParams.update({"svg.hashsalt": "mayfly", "svg.fonttype": "none"})
    figure = Figure(figsize=(11, 6.4))
    new, old = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [len(row["spans"]), 6]}
    )
    title = f"mayfly: {row['minutes_to_ready']} min (hatched: the critical path)"
    bars(new, row["spans"], critical, title)
    old_spans = sorted(said["old_way"], key=lambda span: span["start_s"])
    old_minutes = max(span["end_s"] for span in old_spans) / 60
    bars(old, old_spans, set(), f"before: 15 to 20 min, drawn at {old_minutes}")
    old.set_xlabel("minutes since create")
    ticks = range(0, int(old_minutes) + 2)
    old.set_xticks([60 * t for t in ticks], [str(t) for t in ticks])
    figure.suptitle("Kimi K2.5 (595 GB) on a3-highgpu-8g: from create to the first answer")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def bars(axes: Any, spans: list[dict[str, Any]], critical: set[str], title: str) -> None:
    for line, span in enumerate(spans):
        length = span["end_s"] - span["start_s"]
        axes.barh(
            line,
            max(length, HAIRLINE_S),
            left=span["start_s"],
            height=0.7,
            color=COLOURS.get(span["part"], OTHER),
            hatch="//" if span["part"] in critical else None,
            edgecolor="#333333",
            linewidth=0.5,
        )
        at = max(span["end_s"], span["start_s"] + HAIRLINE_S)
        axes.text(at + 5, line, f"{length:.0f} s", va="center", fontsize=8)
    axes.set_yticks(range(len(spans)), [span["part"] for span in spans], fontsize=9)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
