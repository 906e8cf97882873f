"""The report's pictures: any number of runs in one, as SVG for the page or as PNG.

Lines and words that only need to stand out from the page take the page's own colour, so that the
same picture is read by day, by night and on paper. Runs differ by colour and by marker.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.result import load_of
from mayfly.break_even import Api

INK = "#010203"
"""Stands for the page's own colour; nothing else is painted with it."""
COLOURS = ("#2b7bba", "#d9722e", "#3a9a5b", "#c0487f", "#8a63c9", "#8c7a2b")
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", ":", "-.")
LATENCIES = (
    ("ttft_ms", "time to first token, ms"),
    ("tpot_ms", "time per output token, ms"),
    ("itl_quantiles_ms", "between two events, ms"),
    ("e2e_ms", "end to end, ms"),
)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mayfly",
    "font.size": 10,
    "font.family": "sans-serif",
    **{
        f"{part}color": INK
        for part in (
            "text.",
            "axes.edge",
            "axes.label",
            "xtick.",
            "ytick.",
            "xtick.label",
            "ytick.label",
        )
    },
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#88888855",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}

Runs = Sequence[tuple[str, Mapping[str, Any]]]
"""Each run's name and result."""


@matplotlib.rc_context(STYLE)
def latencies(runs: Runs) -> Figure:
    """What part of the requests was at most so slow, for each figure, run and load."""
    figure, panels = sheet(2, 2, height=6.4)
    for axes, (key, label) in zip(panels, LATENCIES, strict=True):
        for number, (who, result) in enumerate(runs):
            for line, phase in enumerate(result["phases"]):
                values = sorted(v for v in ordered(phase, key) if v is not None)
                if not values:
                    continue
                shares = [100 * i / len(values) for i in range(len(values) + 1)]
                style = {"color": colour(number), "linestyle": STYLES[line % len(STYLES)]}
                label_of = f"{who}: {load_of(phase)}"
                axes.step([values[0], *values], shares, where="post", label=label_of, **style)
        axes.set_xlabel(label)
        axes.set_ylabel("% of requests" if key != "itl_quantiles_ms" else "% of events")
        axes.set_xlim(left=0)
    legend(figure, panels[0])
    return figure


def ordered(phase: Mapping[str, Any], key: str) -> Sequence[float | None]:
    found: Sequence[float | None] = phase["samples"].get(key, phase.get(key)) or ()
    return found


@matplotlib.rc_context(STYLE)
def throughput(runs: Runs) -> Figure:
    """Tokens a second, in all and for each request, against requests at once."""
    figure, (total, each) = sheet(1, 2, height=3.6)
    for number, (who, result) in enumerate(runs):
        points = [p for p in result["phases"] if p["concurrent"] and p["tokens_per_s"]]
        at_once = [p["concurrent"] for p in points]
        style = {"color": colour(number), "marker": MARKERS[number % len(MARKERS)]}
        total.plot(at_once, [p["total_tokens_per_s"] for p in points], label=who, **style)
        each.plot(at_once, [p["tokens_per_s"]["p50"] for p in points], label=who, **style)
    for axes, label in ((total, "tokens/s in all"), (each, "tokens/s of one request, median")):
        axes.set_xlabel("requests at once")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, total)
    return figure


@matplotlib.rc_context(STYLE)
def cost(runs: Runs, api: Api) -> Figure | None:
    """Dollars per million generated tokens by the part of the hour that is busy, at each run's
    best load; the API's price, and where the two meet. None where no run has a rate."""
    figure, (axes,) = sheet(1, 1, height=4.2)
    shares = [i / 100 for i in range(2, 101)]
    drawn = False
    for number, (who, result) in enumerate(runs):
        best = cheapest(result)
        if best is None:
            continue
        full = best["usd_per_m_output_tokens"]
        share, style = full / api.usd_out, {"color": colour(number)}
        label = f"{who}, {load_of(best)}: pays from {share:.0%}" if share <= 1 else f"{who}: dearer"
        axes.plot([100 * s for s in shares], [full / s for s in shares], label=label, **style)
        if share <= 1:
            axes.plot([100 * share], [api.usd_out], marker="o", markersize=9, **style)
        drawn = True
    if not drawn:
        return None
    axes.axhline(api.usd_out, color=INK, linestyle="--", linewidth=1)
    axes.annotate(f"the API: ${api.usd_out:g}", (99, api.usd_out), ha="right", va="bottom")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda usd, _: f"${usd:,.10g}")
    axes.set_xlabel("% of the hour that is busy like that")
    axes.set_ylabel("per million generated tokens")
    axes.set_xlim(0, 100)
    legend(figure, axes)
    return figure


def cheapest(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The phase whose tokens cost least; None where nobody has told a rate."""
    priced = [p for p in result["phases"] if p["usd_per_m_output_tokens"]]
    return min(priced, key=lambda p: p["usd_per_m_output_tokens"], default=None)


@matplotlib.rc_context(STYLE)
def start(runs: Runs) -> Figure | None:
    """Each run's stages on a clock that begins with its first; None where no run has a timeline."""
    told = [(who, timeline(result)) for who, result in runs]
    told = [(who, stages) for who, stages in told if stages]
    if not told:
        return None
    rows = sum(len(stages) for _, stages in told)
    heights = [len(stages) for _, stages in told]
    figure, panels = sheet(len(told), 1, height=1.2 * len(told) + 0.3 * rows, ratios=heights)
    for number, (axes, (who, stages)) in enumerate(zip(panels, told, strict=True)):
        zero = stages[0]["start"]
        for line, stage in enumerate(stages):
            took = stage["end"] - stage["start"]
            axes.barh(line, took, left=stage["start"] - zero, height=0.7, color=colour(number))
            axes.text(stage["end"] - zero, line, f" {took:.1f} s", va="center", fontsize=8)
        axes.set_yticks(range(len(stages)), [stage["stage"] for stage in stages])
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.set_title(who, loc="left", fontsize=10)
    panels[-1].set_xlabel("seconds since the first stage began")
    return figure


def timeline(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The stages that came to an end, by their begin."""
    stages = (result["session"] or {}).get("timeline") or []
    return sorted((s for s in stages if s["end"] is not None), key=lambda s: s["start"])


def sheet(
    rows: int, columns: int, *, height: float, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    return figure, list(panels.flat)


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)


def as_svg(figure: Figure, prefix: str) -> str:
    """An element for a page. prefix: before every id, since a page has several pictures."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r' id="([^"]+)"', rf' id="{prefix}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(INK, "currentColor")


def save_png(figure: Figure, path: Path) -> None:
    """On white, as where a PNG is pasted."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, format="png", dpi=144, facecolor="white")
