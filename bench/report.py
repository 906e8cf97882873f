"""Any number of benchmark results as one HTML file: pictures, tables, money, the old way beside.

    python bench/report.py RESULT.json... --out report.html [--png DIR]

Nothing is fetched when it is opened: the pictures are in it. Each has its figures in a table too.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench import pictures
from bench.pictures import Runs
from bench.report_page import page, picture, table
from bench.report_tables import (
    break_even,
    conditions,
    costs,
    old_and_new,
    speeds,
    starts,
    summary,
)
from bench.result import ResultError, name, read
from mayfly.break_even import Api


def report(runs: Runs, api: Api) -> tuple[str, dict[str, Figure]]:
    """The page, and its pictures by name. runs: their names differ."""
    drawn: dict[str, Figure | None] = {
        "latency": pictures.latencies(runs),
        "throughput": pictures.throughput(runs),
        "cost": pictures.cost(runs, api),
        "start": pictures.start(runs),
    }
    found = {key: figure for key, figure in drawn.items() if figure is not None}
    sections = [
        ("Summary", [table(*summary(runs))]),
        (
            "How long a request waits",
            [draw(found, "latency", "What part of all waited at most so long.")],
        ),
        (
            "How much at once",
            [
                draw(found, "throughput", "Tokens a second against requests at once."),
                table(*speeds(runs)),
            ],
        ),
        ("What tokens cost", money(found, runs, api)),
        ("How the session started", started(found, runs)),
        ("What the session cost", [table(*costs(runs))]),
        ("The old way beside", [table(*old_and_new(who, result)) for who, result in runs]),
        ("To repeat it", [table(*conditions(runs))]),
    ]
    return page("mayfly: a benchmark", sections), found


def draw(found: Mapping[str, Figure], key: str, label: str) -> str:
    return picture(pictures.as_svg(found[key], key), key, label)


def money(found: Mapping[str, Figure], runs: Runs, api: Api) -> list[str]:
    """The break-even, drawn and told; or why there is none."""
    if "cost" not in found:
        return ["<p>No run knows what its machine costs an hour.</p>"]
    label = "Dollars per million generated tokens by how busy the hour is, and the API's price."
    text = (
        f"<p>Against an API at ${api.usd_in:g} in and ${api.usd_out:g} out for a million tokens; "
        "prompts are taken as free here.</p>"
    )
    return [draw(found, "cost", label), text, table(*break_even(runs, api))]


def started(found: Mapping[str, Figure], runs: Runs) -> list[str]:
    if "start" not in found:
        return ["<p>No run has its machine's timeline.</p>"]
    label = "The stages of each start on a clock."
    return [draw(found, "start", label), table(*starts(runs))]


def named(results: Sequence[Mapping[str, Any]]) -> Runs:
    """A name for each that no other has."""
    names = [name(result) for result in results]
    return [
        (who if names.count(who) == 1 else f"{who} ({number})", result)
        for number, (who, result) in enumerate(zip(names, results, strict=True), 1)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the page is written."""
    parser = argparse.ArgumentParser(description="Make a report of benchmark results.")
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("--out", type=Path, required=True, help="the HTML file")
    parser.add_argument("--png", type=Path, metavar="DIR", help="each picture as PNG there too")
    parser.add_argument("--api-in", type=float, default=Api.usd_in, help="the API's $/M, prompts")
    parser.add_argument("--api-out", type=float, default=Api.usd_out, help="the same, answers")
    options = parser.parse_args(arguments)
    try:
        runs = named([read(path) for path in options.results])
        text, drawn = report(runs, Api(usd_in=options.api_in, usd_out=options.api_out))
        options.out.write_text(text)
        if options.png:
            options.png.mkdir(parents=True, exist_ok=True)
            for key, figure in drawn.items():
                pictures.save_png(figure, options.png / f"{key}.png")
    except (ResultError, OSError) as error:
        print(f"{error}\nNo report was written.", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
