"""docs/results/tuning.md out of the raw results: what each engine setting does on one rank.

    python bench/tuning.py > docs/results/tuning.md

Reads docs/results/raw/*-h100-*/results.jsonl and *-h200-*, as bench/probe.py writes them. A cell
that nobody has measured says so.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import tuning_words as words
from mayfly import profile
from mayfly.probe_case import Plan, case_of, predict

RAW = Path(__file__).resolve().parent.parent / "docs/results/raw"
GPUS = ("h100", "h200")
NOT_RUN = "not run"
NOISE = "noise"
BATCHES = (1, 2, 8, 32, 64)
PREFILLS = (1024, 8192, 32768, 57344, 65536, 110000, 131072)
CONTEXTS = (8192, 32768, 57344, 65536, 110000, 131072, 250000)
LAYERS = 61
MODEL = "kimi-k2.5"
# What was aimed at: the figure, where a row has it, the value.
TARGETS: tuple[tuple[str, Callable[["Row"], float | None], float], ...] = (
    ("tok/s of one request alone", lambda row: decode(row, 1, "per_request_tok_s"), 134),
    ("tok/s of each of 8 requests", lambda row: decode(row, 8, "per_request_tok_s"), 119),
    ("tok/s of 64 requests in all", lambda row: decode(row, 64, "total_tok_s"), 4800),
    ("GiB of KV cache a GPU, utilisation 0.97", lambda row: cache_gib(row), 3.9),
)

Row = dict[str, Any]


def read(gpu: str, raw: Path = RAW) -> list[Row]:
    """Every case and probe of a kind of GPU that measured anything, oldest first."""
    rows = []
    for path in sorted(raw.glob(f"*-{gpu}-*/results.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = {**json.loads(line), "folder": path.parent.name}
            if "predicted" in row or ("llm" in row.get("case", {}) and row.get("ready_s")):
                rows.append(row)
    return rows


def cases(rows: Iterable[Row]) -> list[Row]:
    """The cases, and the probes of the model that they are about as cases of their own."""
    found = [row for row in rows if "predicted" not in row]
    return found + [
        {"case": probed(row), **row["measured"]}
        for row in rows
        if row.get("profile") == MODEL and row["measured"].get("ready_s")
    ]


def probed(row: Row) -> Row:
    """A probe as a case: the arguments of its plan."""
    plan = Plan(profile=profile.load(row["profile"]), machine=row["machine"], mode=row["mode"])
    return {"name": f"probe of {row['profile']}", "llm": dict(case_of(plan).llm)}


def settings(row: Row) -> str:
    """What a case has other than the reference, in words; "" for the reference itself."""
    llm = row["case"]["llm"]
    graphs = llm.get("compilation_config", {}).get("cudagraph_capture_sizes")
    told = [
        (llm["max_num_batched_tokens"] != 2048, f"steps of {llm['max_num_batched_tokens']:,}"),
        (llm["max_num_seqs"] != 64, f"{llm['max_num_seqs']} requests at most"),
        (llm["gpu_memory_utilization"] != 0.97, f"utilisation {llm['gpu_memory_utilization']}"),
        (llm.get("kv_cache_dtype") == "fp8", "fp8 KV cache"),
        (graphs, f"{len(graphs or ())} CUDA graph sizes"),
        (llm.get("async_scheduling") is False, "async scheduling off"),
        (llm.get("attention_backend"), str(llm.get("attention_backend"))),
        (row["case"].get("layers"), f"{row['case'].get('layers')} layers"),
        (llm.get("enable_prefix_caching") is False, "no prefix caching"),
    ]
    return ", ".join(words for holds, words in told if holds)


def decode(row: Row, batch: int, name: str) -> float | None:
    found: Row | None = row.get(f"decode batch {batch}")
    return found[name] if found else None


def cache_gib(row: Row) -> float | None:
    return row["kv_gib"] if row["case"]["llm"]["gpu_memory_utilization"] == 0.97 else None


def is_reference(row: Row) -> bool:
    """As the engine is served, whole and in bf16: what changes no decode step is left aside."""
    return settings(row) in ("", "no prefix caching", "utilisation 0.96")


def page(by_gpu: dict[str, list[Row]]) -> str:
    """The whole page."""
    h100 = cases(by_gpu["h100"])
    lines = [words.INTRODUCTION, *_targets(h100), *words.follows(h100), *_probes(by_gpu)]
    for gpu, rows in by_gpu.items():
        lines += ["", f"## One {gpu.upper()}, case by case", "", *_of(cases(rows))]
    return "\n".join([*lines, words.NOT_MEASURED])


def _of(rows: list[Row]) -> list[str]:
    if not rows:
        return ["Not run."]
    return [
        *("Memory and start.", "", *_memory(rows), ""),
        *("Decode at 512 tokens of context: tok/s of each request, by requests at a time.", ""),
        *(*_figures(rows, "decode batch {}", BATCHES, _rate), ""),
        *("Prefill: tokens/s to the first new token, by prompt tokens.", ""),
        *(*_figures(rows, "prefill {}", PREFILLS, _speed), ""),
        *("Decode of one request at long context: tok/s, by tokens of context.", ""),
        *_figures(rows, "decode at {}", CONTEXTS, _rate),
        *_whole_depth(rows),
    ]


def _targets(rows: list[Row]) -> list[str]:
    lines = [
        *("", "## Targets", "", words.TARGETS, ""),
        *_head("mode fast, one rank", "target", "measured", "against it", "least to most", "runs"),
    ]
    for told, figure, target in TARGETS:
        found = [
            (rate, row["case"]["name"])
            for row in rows
            if is_reference(row) and (rate := figure(row)) is not None
        ]
        rates = sorted(rate for rate, _ in found)
        middle = statistics.median(rates)
        lines.append(
            _line(
                *(told, f"{target:,}", _figure(middle), f"{100 * (middle / target - 1):+.1f} %"),
                f"{_figure(rates[0])} to {_figure(rates[-1])}",
                ", ".join(case for _, case in found),
            )
        )
    return lines


def _memory(rows: list[Row]) -> list[str]:
    names = ("weights_gib", "kv_gib", "kv_tokens", "graphs_gib", "compile_s", "graphs_s", "ready_s")
    titles = [name.replace("_", " ").replace("gib", "GiB").replace("kv", "KV") for name in names]
    lines = _head("case", "settings", *titles, "attention")
    for row in rows:
        told = [_figure(row[name]) for name in names]
        lines.append(_line(row["case"]["name"], _words(row), *told, row["attention"]))
    return lines


def _words(row: Row) -> str:
    return settings(row) or "the reference"


def _figures(
    rows: list[Row], key: str, asked: Sequence[int], told: Callable[[Row, str], str]
) -> list[str]:
    """A row for each case that measured any of it."""
    keys = [key.format(n) for n in asked]
    lines = _head("case", "settings", *(f"{n:,}" for n in asked))
    for row in rows:
        if any(name in row for name in keys):
            cells = [told(row, name) if name in row else NOT_RUN for name in keys]
            lines.append(_line(row["case"]["name"], _words(row), *cells))
    return lines


def _rate(row: Row, key: str) -> str:
    if key.startswith("decode at") and row["case"]["llm"].get("enable_prefix_caching") is False:
        return NOISE
    found = row[key]
    spread = f" ({found['least']:g} to {found['most']:g})" if "least" in found else ""
    return f"{found['per_request_tok_s']:g}{spread}"


def _speed(row: Row, key: str) -> str:
    return f"{row[key]['tok_s']:,.0f}"


def _whole_depth(rows: list[Row]) -> list[str]:
    """What the missing layers would add: calculated, for the longest that some layers measured."""
    alone = [r["decode batch 1"] for r in rows if is_reference(r) and "decode batch 1" in r]
    few = [row for row in rows if row["case"].get("layers") and "decode batch 1" in row]
    if not alone or not few:
        return []
    start_s = 1 / statistics.median(found["per_request_tok_s"] for found in alone)
    lines = ["", words.WHOLE_DEPTH, "", *_head("case", *(f"{n:,}" for n in CONTEXTS))]
    for row in few:
        short_s = 1 / row["decode batch 1"]["per_request_tok_s"]
        cells = []
        for tokens in CONTEXTS:
            found = row.get(f"decode at {tokens}")
            if found is None:
                cells.append(NOT_RUN)
                continue
            more_s = (1 / found["per_request_tok_s"] - short_s) * LAYERS / row["case"]["layers"]
            cells.append(f"{1 / (start_s + more_s):.0f}")
        lines.append(_line(row["case"]["name"], *cells))
    return lines


def _probes(by_gpu: dict[str, list[Row]]) -> list[str]:
    """Planned beside measured, a row a profile."""
    lines = ["", "## Planned and measured", "", words.PROBES, ""]
    found = [row for rows in by_gpu.values() for row in rows if "predicted" in row]
    if not found:
        return [*lines, "Not run."]
    lines += _head(
        *("profile", "rank", "weights GiB", "KV GiB", "KV tokens", "planned before"),
        *("tok/s at 1", "8", "64", "prefill 8,192", "ready s"),
    )
    return lines + [_line(*_probe_cells(row)) for row in found]


def _probe_cells(row: Row) -> list[str]:
    """The plan as it is now on that GPU, beside what the engine found."""
    measured = row["measured"]
    plan = Plan(profile=profile.load(row["profile"]), machine=row["machine"], mode=row["mode"])
    now = predict(plan.profile, plan.setup(), row["planned_gpu_gib"])
    memory = [_beside(value, measured[name]) for name, value in now.items()]
    rates = [_told(measured, f"decode batch {n}", "per_request_tok_s") for n in (1, 8, 64)]
    return [
        *(row["profile"], row["rank"], *memory, f"{row['predicted']['kv_gib']:g} GiB"),
        *(*rates, _told(measured, "prefill 8192", "tok_s")),
        f"{measured['ready_s']:g}" if "ready_s" in measured else NOT_RUN,
    ]


def _beside(planned: float, found: float) -> str:
    return f"{_figure(planned)} / {_figure(found)} ({100 * (found / planned - 1):+.1f} %)"


def _told(measured: Row, key: str, name: str) -> str:
    return _figure(measured[key][name]) if key in measured else NOT_RUN


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _head(*titles: str) -> list[str]:
    return [_line(*titles), "|" + "---|" * len(titles)]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(page({gpu: read(gpu) for gpu in GPUS}))


if __name__ == "__main__":
    main()
