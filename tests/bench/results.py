"""Benchmark results made up of known requests."""

import random
from collections.abc import Sequence
from typing import Any

from bench.stats import Sample, summary
from tests.desk.schemas import (
    COUNT,
    COUNT_OR_NULL,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    every,
    whole,
)

SPREAD = whole(mean=NUMBER, p50=NUMBER, p90=NUMBER, p99=NUMBER)
SPREAD_OR_NULL = {"anyOf": [SPREAD, {"type": "null"}]}
SAMPLES = whole(
    sent_s=every(NUMBER),
    ttft_ms=every(NUMBER),
    tpot_ms=every(NUMBER_OR_NULL),
    e2e_ms=every(NUMBER),
    input_tokens=every(COUNT),
    output_tokens=every(COUNT),
)
PHASE = whole(
    concurrent=COUNT_OR_NULL,
    rate_per_s=NUMBER_OR_NULL,
    requests=COUNT,
    errors=COUNT,
    error_messages={"type": "object", "additionalProperties": COUNT},
    wall_s=NUMBER,
    client_cpu_share=NUMBER,
    input_tokens=COUNT,
    output_tokens=COUNT,
    total_tokens_per_s=NUMBER_OR_NULL,
    requests_per_s=NUMBER_OR_NULL,
    **dict.fromkeys(("tokens_per_s", "decode_tokens_per_s", "sent_late_ms"), SPREAD_OR_NULL),
    **dict.fromkeys(("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"), SPREAD_OR_NULL),
    itl_quantiles_ms=every(NUMBER),
    samples=SAMPLES,
    usd_per_m_output_tokens=NUMBER_OR_NULL,
)
STAGE = whole(
    stage=TEXT,
    start=NUMBER,
    end=NUMBER_OR_NULL,
    bytes=COUNT_OR_NULL,
    ok={"type": ["boolean", "null"]},
)
SESSION = whole(
    session=TEXT,
    **dict.fromkeys(("profile", "machine", "provisioning", "zone", "region"), TEXT_OR_NULL),
    **dict.fromkeys(("engine", "model", "revision", "mode"), TEXT_OR_NULL),
    serve_flags={"anyOf": [every(TEXT), {"type": "null"}]},
    max_model_len=COUNT_OR_NULL,
    idle_s=NUMBER_OR_NULL,
    started_s=NUMBER_OR_NULL,
    seconds=NUMBER,
    usd=NUMBER_OR_NULL,
    timeline=every(STAGE),
    basis=TEXT,
)
SCHEMA = whole(
    format={"const": 1},
    date=TEXT,
    command=every(TEXT),
    versions=whole(mayfly=TEXT_OR_NULL, engine=TEXT_OR_NULL, python=TEXT, httptools=TEXT_OR_NULL),
    client=whole(system=TEXT, cpus=COUNT_OR_NULL),
    url=TEXT,
    model=TEXT,
    session={"anyOf": [SESSION, {"type": "null"}]},
    rate={"anyOf": [whole(usd_per_hour=NUMBER, source=TEXT, date=TEXT_OR_NULL), {"type": "null"}]},
    load={"type": "object", "required": ["model", "shape", "seed", "warmup", "output_tokens"]},
    errors=COUNT,
    phases=every(PHASE) | {"minItems": 1},
)
"""What bench/benchmark.py --out writes, and mayfly bench with it."""


def phase(
    concurrent: int = 8,
    requests: int = 160,
    mean_s: float = 0.010,
    seed: int = 0,
    errors: Sequence[str] = (),
) -> dict[str, Any]:
    """One phase whose time per output token spreads by a fifth of its mean."""
    rng, tokens = random.Random(seed), 64
    samples = []
    for number in range(requests):
        gaps_s = tuple(rng.gauss(mean_s, mean_s / 50) for _ in range(tokens - 1))
        slow = rng.gauss(1, 0.2)
        gaps_s = tuple(gap * slow for gap in gaps_s)
        ttft_s = rng.uniform(0.1, 0.2)
        samples.append(
            Sample(
                sent_s=number / 10,
                late_s=0,
                ttft_s=ttft_s,
                itl_s=gaps_s,
                e2e_s=ttft_s + sum(gaps_s),
                input_tokens=512,
                output_tokens=tokens,
            )
        )
    wall_s = sum(s.e2e_s for s in samples) / concurrent
    head = {"concurrent": concurrent, "rate_per_s": None, "client_cpu_share": 0.05}
    found = head | summary(samples, errors, wall_s)
    found["usd_per_m_output_tokens"] = 26 / 3600 / found["total_tokens_per_s"] * 1e6
    return found


def result(*phases: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole result."""
    return {
        "format": 1,
        "date": "2026-11-24T10:00:00+00:00",
        "command": ["bench/benchmark.py"],
        "versions": {"mayfly": "0.1.0", "engine": "0.24.0", "python": "3.11", "httptools": "0.9"},
        "client": {"system": "Linux x86_64", "cpus": 2},
        "url": "http://127.0.0.1:8000/v1",
        "model": "kimi-k2.5",
        "session": None,
        "rate": {"usd_per_hour": 26.0, "source": "a table", "date": "2026-11-01"},
        "load": {
            "model": "kimi-k2.5",
            "shape": "continuous",
            "prompt": "",
            "input_tokens": "512",
            "output_tokens": "64",
            "requests": 160,
            "rounds": None,
            "arrivals": None,
            "rate_per_s": None,
            "seed": 0,
            "warmup": 1,
            "aim": {"tokens_per_word": 1.0, "template_tokens": 9},
        },
        "errors": sum(p["errors"] for p in phases),
        "phases": list(phases),
        **more,
    }
