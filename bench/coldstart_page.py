"""docs/results/cold-start.md: what the model says, in tables, with every source."""

from __future__ import annotations

from typing import Any

HEAD = """# Cold start: from create to the first answer

Made by `python bench/coldstart.py --out docs/results/cold-start.json`; do not edit. It lays the
numbers at the end of this page along the product's own stage graph (`startup/run.py`).
**No start on a whole machine of Google's is behind it**: parts were measured on one H100 and on
small machines, the rest is published by others. The raw files say when and how.
"""

LOADERS = """vLLM's loaders over the same files. A profile takes the quickest on eight GPUs; on one,
FastSafetensors was a little quicker still.
"""

LEFT_OUT = """## What this leaves out

- One rank alone was measured: no all-reduce, no NCCL with eight ranks, no vision tower. The figure
  `ranks` stands for what more ranks cost.
- No A100 was measured: a2-ultragpu-8g takes the H100's seconds for imports, loads and warm-up,
  which flatters it.
- Finding capacity: the clock begins when Compute accepts the create. A zone that is sold out costs
  more, before it.
- `boot` on these machine types is published nowhere: hence its wide range.
- The bucket's rate on one VM depends on the region and the project's quota; a session says its own
  rate in its timeline.
- Mode `long` looks for a needle past 64K tokens in its check: some {needle:.0f} s more at the
  prefill rate of one rank.
"""


def page(said: dict[str, Any], picture: str) -> str:
    """The whole page. picture: file name beside it."""
    main = next(
        r for r in said["rows"] if (r["profile"], r["machine"]) == ("kimi-k2.5", "a3-highgpu-8g")
    )
    parts = [
        HEAD,
        headline(main, said["goal_minutes"]),
        f"![The stages on a clock, and what came before]({picture})",
        "## Every profile and machine\n\n" + overview(said["rows"]),
        "## The critical path\n\n" + paths(said["rows"]),
        "## What each improvement is worth\n\n" + improvements(main),
        "## What was measured on the GPU\n\n" + starts(said["starts"]),
        "## Loaders\n\n" + LOADERS + "\n" + loaders(said["loaders"]),
        LEFT_OUT.format(needle=said["needle_s"]).rstrip(),
        "## The numbers\n\n" + sources(said["rows"]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def headline(row: dict[str, Any], goal: float) -> str:
    text = (
        f"**Kimi K2.5 on a3-highgpu-8g: {row['minutes_to_ready']} minutes** "
        f"(every range at its best end {row['minutes_best']}, at its worst {row['minutes_worst']}; "
        f"the goal is {goal:g})."
    )
    if not row["forbidden_by"]:
        return text
    return f"{text} Not met: {row['forbidden_by']}."


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def overview(rows: list[dict[str, Any]]) -> str:
    head = [
        "profile",
        "machine",
        "min",
        "best",
        "worst",
        "without all this",
        "not 4 because",
    ]
    keys = ("minutes_to_ready", "minutes_best", "minutes_worst", "minutes_without_any")
    return table(
        head,
        [
            [r["profile"], r["machine"], *(f"{r[k]:.1f}" for k in keys), r["forbidden_by"] or "-"]
            for r in rows
        ],
    )


def paths(rows: list[dict[str, Any]]) -> str:
    """Stage by stage; the seconds of a line add up to its minutes."""
    lines = []
    for r in rows:
        steps = ", ".join(f"{p['part']} {p['seconds']:.0f} s" for p in r["critical_path"])
        lines.append(f"- {r['profile']} on {r['machine']}: {steps}")
    return "\n".join(lines)


def starts(rows: list[dict[str, Any]]) -> str:
    """A dash: the case was cut off before, or has no such part."""
    keys = (
        "load_begins",
        "weights_took",
        "model_took",
        "compiled_took",
        "graphs_took",
        "listening",
    )
    head = ["case (one H100)", "imports", "weights", "model", "compile", "graphs", "listening, s"]
    cells = [[r["case"], *(f"{r[k]:.1f}" if k in r else "-" for k in keys)] for r in rows]
    return table(head, cells)


def loaders(rows: list[dict[str, Any]]) -> str:
    head = ["loader", "one H100, GB/s", "eight H200, GB/s (published)", "source of each"]
    lines = [
        [
            row["loader"],
            f"{row['one_gpu']['value']:g}",
            f"{row['eight_gpus']['value']:g}",
            f"{row['one_gpu']['source']}; {row['eight_gpus']['source']}",
        ]
        for row in rows
    ]
    return table(head, lines)


def improvements(row: dict[str, Any]) -> str:
    whole, none = row["minutes_to_ready"], row["minutes_without_any"]
    lines = [["all", f"{whole:.2f}", "", ""], ["none", f"{none:.2f}", "", ""]]
    for name, lacking in row["minutes_without"].items():
        only = row["minutes_with_only"][name]
        without = f"{lacking:.2f} ({lacking - whole:+.2f})"
        lines.append([name, "", without, f"{only:.2f} ({only - none:+.2f})"])
    head = ["Kimi K2.5 on a3-highgpu-8g, minutes", "", "all but this one", "this one alone"]
    return table(head, lines)


def sources(rows: list[dict[str, Any]]) -> str:
    seen: dict[str, dict[str, Any]] = {}
    for r in rows:
        seen |= {i["name"]: i for i in r["inputs"]}
    lines = []
    for i in seen.values():
        span = f"{i['low']:g} to {i['high']:g}" if "low" in i else ""
        lines.append([i["name"], f"{i['value']:g}", span, i["unit"], i["source"]])
    return table(["name", "value", "range", "unit", "source"], lines)
