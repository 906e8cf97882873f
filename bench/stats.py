"""Percentiles and totals of a phase of the benchmark."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request that came to its end. Seconds; itl_s are the gaps between chunks."""

    ttft_s: float
    itl_s: tuple[float, ...]
    e2e_s: float
    output_tokens: int

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first; None for a single token."""
        after_first = self.output_tokens - 1
        return (self.e2e_s - self.ttft_s) / after_first if after_first > 0 else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, linear between neighbours. Not for []."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float] | None:
    """Mean and percentiles, or None where nothing was measured: a zero would look like a result."""
    if not values:
        return None
    mean = round(sum(values) / len(values), digits)
    return {"mean": mean} | {f"p{p}": round(percentile(values, p), digits) for p in PERCENTILES}


def summary(samples: Sequence[Sample], errors: Sequence[str], wall_s: float) -> dict[str, Any]:
    """One phase in figures. Requests that failed are counted beside the ones that did not.

    Two rates a request: `tokens_per_s` divides by the whole request, first-token time included;
    `decode_tokens_per_s` by the time after the first token (1 / TPOT).
    """
    tokens = sum(s.output_tokens for s in samples)
    tpots_s = [s.tpot_s for s in samples if s.tpot_s]
    return {
        "requests": len(samples) + len(errors),
        "errors": len(errors),
        "error_messages": dict(Counter(errors).most_common(5)),
        "wall_s": round(wall_s, 3),
        "output_tokens": tokens,
        "total_tokens_per_s": round(tokens / wall_s, 2) if wall_s > 0 else None,
        "tokens_per_s": spread([s.output_tokens / s.e2e_s for s in samples], 2),
        "decode_tokens_per_s": spread([1 / t for t in tpots_s], 2),
        "ttft_ms": spread([1000 * s.ttft_s for s in samples]),
        "tpot_ms": spread([1000 * t for t in tpots_s]),
        "itl_ms": spread([1000 * gap for s in samples for gap in s.itl_s]),
        "e2e_ms": spread([1000 * s.e2e_s for s in samples]),
    }
