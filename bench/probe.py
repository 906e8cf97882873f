"""Measure ranks case by case with the real vLLM on one GPU: what docs/results/ is made of.

    python bench/probe.py --config HUB_CONFIG.json --tp 8 --cases CASES.json --out DIR
    python bench/probe.py --profiles qwen3-235b,llama-70b-r1 --out DIR

CASES.json: a list of {"name", "llm": {arguments of vllm.LLM}, "decode": [batch...],
"prefill": [tokens...], "decode_at": [tokens...], "env": {...}, "layers": n, "limit_s": n}.
With --profiles each profile's own plan is the case, as in `mayfly probe`, but needing neither typer
nor rich. DIR/results.jsonl gets one line a case, DIR/<name>.log the engine's own log.
What a rank leaves out: see mayfly/rank.py.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mayfly import probe, profile  # noqa: E402 - the checkout must be importable first
from mayfly.probe_case import DEFAULT_LIMIT_S, Case, Plan  # noqa: E402
from mayfly.rank import rank_config  # noqa: E402


def case_of(raw: dict[str, Any], config: dict[str, Any], tp: int) -> Case:
    """A case of the file with the rank it is about; ValueError where it cannot be measured."""
    wanted = {key: value for key, value in raw.items() if key != "layers"}
    rank = rank_config(config, tp)
    if raw.get("layers"):
        rank["num_hidden_layers"] = raw["layers"]
    for key in ("decode", "decode_at", "prefill"):
        wanted[key] = tuple(raw.get(key, ()))
    unknown = set(wanted) - set(Case.__dataclass_fields__)
    if unknown:
        raise ValueError(f"case {raw.get('name')}: no such key: {', '.join(sorted(unknown))}")
    if wanted["decode_at"] and raw["llm"].get("enable_prefix_caching") is False:
        # Each run would prefill anew, and that noise drowns what is measured.
        raise ValueError(f"case {raw.get('name')}: decode_at needs enable_prefix_caching")
    return Case(config=rank, **wanted)


def of_cases(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    config = json.loads(options.config.read_text())
    only = options.only.split(",") if options.only else None
    cases = [
        raw for raw in json.loads(options.cases.read_text()) if not only or raw["name"] in only
    ]
    for raw, case in [(raw, case_of(raw, config, options.tp)) for raw in cases]:
        yield {"case": raw, **probe.run(case, sys.executable, options.out)}


def of_profiles(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in options.profiles.split(","):
        loaded = profile.load(name)
        plan = Plan(
            profile=loaded,
            machine=options.machine or loaded.default_machine,
            mode=options.mode,
            batches=tuple(int(batch) for batch in options.batches.split(",")),
        )
        ask = probe.Ask(plan=plan, limit_s=options.limit_s, python=sys.executable, out=options.out)
        yield probe.probe(ask)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--tp", type=int)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--only", help="with --cases: names, comma between them")
    parser.add_argument("--profiles", help="names, comma between them")
    parser.add_argument("--machine", help="with --profiles; else each profile's first")
    parser.add_argument("--mode", default="fast", help="with --profiles")
    parser.add_argument("--batches", default="1,8,64", help="with --profiles")
    parser.add_argument("--limit-s", type=float, default=DEFAULT_LIMIT_S)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not options.profiles and not (options.config and options.tp and options.cases):
        parser.error("either --profiles, or --config, --tp and --cases")
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for result in of_profiles(options) if options.profiles else of_cases(options):
        failed += result["exit"] != 0
        with (options.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps({k: v for k, v in result.items() if k != "case"}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
