"""`mayfly plan --all`: every profile on every machine, as docs/results/fits.md has it."""

import json
from typing import Any

from mayfly import profile
from mayfly.modes import MODES
from mayfly.plan import every_fit


def run(*, as_json: bool) -> None:
    """Every profile on every machine, a table a mode; as Markdown for docs/results/fits.md."""
    loaded = {name: profile.load(name) for name in profile.names()}
    rows = {mode: every_fit(loaded, mode) for mode in MODES}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(markdown(rows))


def markdown(rows: dict[str, list[dict[str, Any]]]) -> str:
    """docs/results/fits.md, whole."""
    lines = ["# Every profile planned on every machine", "", INTRODUCTION]
    for mode, found in rows.items():
        lines += ["", f"## Mode {mode}", "", *fit_table(found)]
        lines += ["", f"### Mode {mode}: {FRONTIER}", "", *frontier_table(found)]
    return "\n".join(lines)


FRONTIER = "requests at a time, by tokens of context"
CONTEXTS = tuple(2**n for n in range(12, 19))

INTRODUCTION = """\
Made by `mayfly plan --all`; a test holds this page to it. All of it is arithmetic (+-0.3 GiB) with
the flags that the profile would be served with; no row is a run. GiB are a GPU's."""


def fit_table(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| profile | machine | context | requests | weights GiB | KV GiB | KV tokens | TP | DCP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        if row["fits"]:
            lines.append(
                f"| {row['profile']} | {row['machine']} | {row['max_context']:,} "
                f"| {row['max_requests']} | {row['weights_gib_per_gpu']:.2f} "
                f"| {row['kv_gib_per_gpu']:.2f} | {row['kv_tokens']:,} "
                f"| {row['tensor_parallel']} | {row['context_parallel']} |"
            )
        else:
            more = f"; {row['nodes']} of them hold it" if row["nodes"] else ""
            lines.append(
                f"| {row['profile']} | {row['machine']} | no: {row['reason']}{more} |" + " |" * 6
            )
    return lines


def frontier_table(found: list[dict[str, Any]]) -> list[str]:
    """How many requests of a length fit at a time, never more than the engine is told to take."""
    rows = [(row, dict(row["frontier"])) for row in found if row["fits"]]
    contexts = [tokens for tokens in CONTEXTS if any(tokens in requests for _, requests in rows)]
    lines = [
        f"| profile | machine | {' | '.join(f'{tokens:,}' for tokens in contexts)} |",
        "|---|---|" + "---|" * len(contexts),
    ]
    for row, requests in rows:
        cells = " | ".join(str(requests.get(tokens, "-")) for tokens in contexts)
        lines.append(f"| {row['profile']} | {row['machine']} | {cells} |")
    return lines
