"""Minutes from `create` to `ready` for each profile and machine, from measured and published parts.

    python bench/coldstart.py --out docs/results/cold-start.json

Needs no GPU and measures nothing: it lays the numbers of docs/results/ along the product's stage
graph (bench/coldstart_model.py, bench/coldstart_inputs.py). Beside FILE it writes the same name
with .md (tables, critical path, sources) and .svg (a Gantt beside the old way's). The same inputs
give the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import coldstart_inputs as inputs  # noqa: E402
from bench import coldstart_model as model  # noqa: E402
from bench import coldstart_page, coldstart_picture  # noqa: E402

NEEDLE_TOKENS = 70_000  # startup/check.py's


def row(node: model.Node, figures: dict[str, inputs.Figure]) -> dict[str, Any]:
    """One line of the result."""
    book = inputs.Book(figures)
    spans = model.Start(node, book).spans()
    ends = {
        end: model.minutes(model.Start(node, inputs.Book(figures, end)).spans())
        for end in ("best", "worst")
    }
    lacking = {
        name: model.minutes(model.Start(node, inputs.Book(figures), [name]).spans())
        for name in model.IMPROVEMENTS
    }
    having = {
        name: model.minutes(
            model.Start(
                node, inputs.Book(figures), [n for n in model.IMPROVEMENTS if n != name]
            ).spans()
        )
        for name in model.IMPROVEMENTS
    }
    bare = model.Start(node, inputs.Book(figures), model.IMPROVEMENTS).spans()
    return {
        "profile": node.profile,
        "machine": node.machine,
        "minutes_to_ready": model.minutes(spans),
        "forbidden_by": model.forbidden_by(spans),
        "minutes_best": ends["best"],
        "minutes_worst": ends["worst"],
        "minutes_without_any": model.minutes(bare),
        "minutes_without": lacking,
        "minutes_with_only": having,
        "critical_path": [
            {"part": name, "seconds": round(seconds, 1)}
            for name, seconds in model.critical_path(spans)
        ],
        "spans": [
            {"part": s.name, "start_s": round(s.start, 1), "end_s": round(s.end, 1)} for s in spans
        ],
        "inputs": book.rows(),
    }


def old_way(figures: dict[str, inputs.Figure]) -> list[dict[str, Any]]:
    """What came before, one after the other; what its own figures leave open is called waiting."""
    at = 0.0
    rows = []
    for part in ("driver", "copy", "load", "graphs"):
        end = at + figures[f"old_{part}"].value
        rows.append({"part": part, "start_s": at, "end_s": end})
        at = end
    whole = figures["old_total"].value
    return [{"part": "boot, imports, waiting", "start_s": at, "end_s": whole}, *rows]


def result(figures: dict[str, inputs.Figure]) -> dict[str, Any]:
    return {
        "goal_minutes": model.GOAL_MINUTES,
        "needle_s": round(NEEDLE_TOKENS / figures["prefill"].value, 1),
        "starts": inputs.logs(),
        "loaders": [
            {"loader": name, "one_gpu": vars(one), "eight_gpus": vars(eight)}
            for name in inputs.LOADED
            for one, eight in [(figures[f"load_{name}"], figures[f"eight_{name}"])]
        ],
        "rows": [row(node, figures) for node in model.nodes()],
        "old_way": old_way(figures),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON; .md and .svg go beside it")
    options = parser.parse_args()
    try:
        said = result(inputs.read())
    except (inputs.InputError, model.ModelError, OSError, ValueError, KeyError) as error:
        print(f"The cold-start model cannot be made: {error!r}.", file=sys.stderr)
        print("Nothing was written.", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(said, indent=1) + "\n")
    picture = options.out.with_suffix(".svg")
    coldstart_picture.draw(said, picture)
    options.out.with_suffix(".md").write_text(coldstart_page.page(said, picture.name))
    for one in said["rows"]:
        print(f"{one['profile']} on {one['machine']}: {one['minutes_to_ready']} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
