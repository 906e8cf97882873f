"""Percentiles and totals of a phase of the benchmark.

Each figure is defined as in `vllm bench serve`, backend openai-chat, so that the two agree. What
differs: there the first event of an answer, which only names the role, counts as the first token;
here it is the first event with text, reasoning or part of a tool call. vLLM sends both at once, so
TTFT is the same, and their list of gaps has one of nearly 0 more a request than ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PERCENTILES = (50, 90, 99)
MESSAGES = 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request that came to its end. Seconds.

    sent_s: since the phase began. late_s: sent after it was due. ttft_s: from sending, connecting
    included, to the first token. e2e_s: to the last token. itl_s: the gaps between events with
    tokens. Tokens are the server's own count (`usage`).
    """

    sent_s: float
    late_s: float
    ttft_s: float
    itl_s: tuple[float, ...]
    e2e_s: float
    input_tokens: int
    output_tokens: int

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first; None for a single token."""
        after_first = self.output_tokens - 1
        return (self.e2e_s - self.ttft_s) / after_first if after_first > 0 else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, linear between neighbours. Not for []."""
    return of_sorted(sorted(values), percent)


def of_sorted(ordered: Sequence[float], percent: float) -> float:
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float] | None:
    """Mean and percentiles, or None where nothing was measured: a zero would look like a result."""
    if not values:
        return None
    ordered = sorted(values)
    found = {"mean": sum(ordered) / len(ordered)}
    found |= {f"p{p}": of_sorted(ordered, p) for p in PERCENTILES}
    return {name: round(value, digits) for name, value in found.items()}


def summary(samples: Sequence[Sample], errors: Sequence[str], wall_s: float) -> dict[str, Any]:
    """One phase in figures. Requests that failed are counted beside the ones that did not.

    Two rates a request: `tokens_per_s` divides by the whole request, first-token time included;
    `decode_tokens_per_s` by the time after the first token (1 / TPOT). `total_tokens_per_s`:
    generated tokens of all requests by the phase's own length.
    """
    tokens = sum(s.output_tokens for s in samples)
    tpots_s = [s.tpot_s for s in samples if s.tpot_s]
    gaps_s = [gap for s in samples for gap in s.itl_s]
    return {
        "requests": len(samples) + len(errors),
        "errors": len(errors),
        "error_messages": counted(errors),
        "wall_s": round(wall_s, 3),
        "input_tokens": sum(s.input_tokens for s in samples),
        "output_tokens": tokens,
        "total_tokens_per_s": round(tokens / wall_s, 2) if wall_s > 0 else None,
        "requests_per_s": round(len(samples) / wall_s, 3) if wall_s > 0 else None,
        "tokens_per_s": spread([s.output_tokens / s.e2e_s for s in samples], 2),
        "decode_tokens_per_s": spread([1 / t for t in tpots_s], 2),
        "ttft_ms": spread([1000 * s.ttft_s for s in samples]),
        "tpot_ms": spread([1000 * t for t in tpots_s]),
        "itl_ms": spread([1000 * gap for gap in gaps_s]),
        "e2e_ms": spread([1000 * s.e2e_s for s in samples]),
        "sent_late_ms": spread([1000 * s.late_s for s in samples]),
        "itl_quantiles_ms": quantiles([1000 * gap for gap in gaps_s]),
        "samples": columns(samples),
    }


def counted(errors: Sequence[str]) -> dict[str, int]:
    """Every error by its message; beyond so many messages the rest in one line, never dropped."""
    common = Counter(errors).most_common()
    found = dict(common[:MESSAGES])
    rest = sum(count for _, count in common[MESSAGES:])
    return found | ({"other messages": rest} if rest else {})


def quantiles(values: Sequence[float]) -> list[float]:
    """101 values, from the least to the greatest: a distribution small enough to keep."""
    ordered = sorted(values)
    return [round(of_sorted(ordered, p), 3) for p in range(101)] if ordered else []


def columns(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    """Each request's own figures, in the order in which they were sent."""
    ordered = sorted(samples, key=lambda s: s.sent_s)
    return {
        "sent_s": [round(s.sent_s, 4) for s in ordered],
        "ttft_ms": [round(1000 * s.ttft_s, 3) for s in ordered],
        "tpot_ms": [None if s.tpot_s is None else round(1000 * s.tpot_s, 4) for s in ordered],
        "e2e_ms": [round(1000 * s.e2e_s, 3) for s in ordered],
        "input_tokens": [s.input_tokens for s in ordered],
        "output_tokens": [s.output_tokens for s in ordered],
    }
