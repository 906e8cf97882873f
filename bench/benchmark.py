"""How fast an endpoint answers: alone, and with several requests at once.

    python bench/benchmark.py --rounds 3 --concurrent 2

Each round sends its requests together and waits for all of them. Errors are counted, never dropped;
with any error the exit code is 1.
"""

import argparse
import itertools
import json
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.client import Endpoint, EndpointError, endpoint_arguments, positive, stream_chat
from bench.stats import Sample, summary

PROMPT = "Explain how a suspension bridge carries its load, step by step, in plain words."
COLUMNS = ("mean", "p50", "p90", "p99")
ROWS = (
    ("tokens/s per request", "tokens_per_s"),
    ("tokens/s per request, decode", "decode_tokens_per_s"),
    ("time to first token (TTFT), ms", "ttft_ms"),
    ("time per output token (TPOT), ms", "tpot_ms"),
    ("inter-token latency (ITL), ms", "itl_ms"),
    ("end to end, ms", "e2e_ms"),
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent: `rounds` rounds of `concurrent` requests of up to `max_tokens` tokens each."""

    model: str
    prompt: str
    rounds: int
    concurrent: int
    max_tokens: int


def body(load: Load, mark: str) -> dict[str, Any]:
    """One request. The mark comes first, so that no request hits the prefix cache of another."""
    return {
        "model": load.model,
        "messages": [{"role": "user", "content": f"[{mark}] {load.prompt}"}],
        "max_tokens": load.max_tokens,
        "temperature": 0,
        "ignore_eos": True,  # else the length of the answer, not the speed, is what differs
    }


def measure(endpoint: Endpoint, request: dict[str, Any]) -> Sample | str:
    """One request's sample, or why there is none."""
    try:
        stream = stream_chat(endpoint, request)
    except EndpointError as error:
        return str(error)
    tokens = int((stream.usage or {}).get("completion_tokens") or 0)
    if not stream.arrivals_s or tokens < 1:
        return "the stream held no token, or no usage"
    return Sample(
        ttft_s=stream.arrivals_s[0],
        itl_s=tuple(b - a for a, b in itertools.pairwise(stream.arrivals_s)),
        e2e_s=stream.arrivals_s[-1],
        output_tokens=tokens,
    )


def run_phase(endpoint: Endpoint, load: Load, marks: Iterator[str]) -> dict[str, Any]:
    """All rounds of one concurrency, in figures."""
    results: list[Sample | str] = []
    start = time.perf_counter()
    with ThreadPoolExecutor(load.concurrent) as pool:
        for _ in range(load.rounds):
            requests = [body(load, next(marks)) for _ in range(load.concurrent)]
            results += pool.map(lambda request: measure(endpoint, request), requests)
    wall_s = time.perf_counter() - start
    samples = [r for r in results if isinstance(r, Sample)]
    errors = [r for r in results if isinstance(r, str)]
    return {"concurrent": load.concurrent, **summary(samples, errors, wall_s)}


def table(phase: dict[str, Any]) -> Table:
    """One phase for people."""
    title = f"{phase['concurrent']} at once: {phase['requests']} requests, {phase['errors']} failed"
    out = Table("", *COLUMNS, title=title, title_justify="left")
    for name, key in ROWS:
        figures = phase[key]
        cells = [f"{figures[k]:,.1f}" if figures else "-" for k in COLUMNS]
        out.add_row(name, *cells)
    out.add_section()
    rate = phase["total_tokens_per_s"]
    out.add_row("tokens/s in all", f"{rate:,.1f}" if rate is not None else "-", "", "", "")
    return out


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Benchmark an OpenAI-compatible endpoint by streaming: alone, then N at once."
    )
    endpoint_arguments(parser)
    add, count = parser.add_argument, positive(int)
    add("--rounds", type=count, default=3, help="rounds per concurrency (%(default)s)")
    add("--concurrent", type=count, default=2, help="requests at once (%(default)s)")
    add("--max-tokens", type=count, default=128, help="tokens per answer (%(default)s)")
    add("--warmup", type=int, default=1, help="requests before, not counted (%(default)s)")
    add("--prompt", default=PROMPT, help="what is asked")
    return parser.parse_args(arguments)


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Every phase: alone first, then all at once. Raises EndpointError if it cannot begin."""
    endpoint = Endpoint(options.url, options.key, options.timeout_s)
    model = options.model or endpoint.first_model()
    # The mark differs between runs too: a second run must not be served from the first one's cache.
    run = uuid.uuid4().hex[:8]
    marks = (f"{run}-{i}" for i in itertools.count())
    phases = []
    for concurrent in sorted({1, options.concurrent}):
        load = Load(
            model=model,
            prompt=options.prompt,
            rounds=options.rounds,
            concurrent=concurrent,
            max_tokens=options.max_tokens,
        )
        if concurrent == 1:
            warm_up(endpoint, load, marks, options.warmup)
        phases.append(run_phase(endpoint, load, marks))
    return {
        "url": options.url,
        "model": model,
        "rounds": options.rounds,
        "max_tokens": options.max_tokens,
        "errors": sum(p["errors"] for p in phases),
        "phases": phases,
    }


def warm_up(endpoint: Endpoint, load: Load, marks: Iterator[str], count: int) -> None:
    """Requests that are not counted. Raises EndpointError if one fails: nothing to measure."""
    for _ in range(count):
        result = measure(endpoint, body(load, next(marks)))
        if isinstance(result, str):
            raise EndpointError(result)


def main(arguments: list[str] | None = None) -> int:
    """0 when every request succeeded, 1 otherwise."""
    options = parse(arguments)
    try:
        figures = report(options)
    except EndpointError as error:
        print(f"No benchmark of {options.url}: {error}", file=sys.stderr)
        print("Nothing was measured. Is the tunnel up? Run: mayfly connect", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        console = Console()
        console.print(f"{figures['model']} at {figures['url']}")
        for phase in figures["phases"]:
            console.print(table(phase))
    for phase in figures["phases"]:
        for message, count in phase["error_messages"].items():
            print(f"{count} x {message}", file=sys.stderr)
    return 1 if figures["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
