"""From how much use on an own machine costs less than an API that sells tokens.

Pure. Speeds are measured ones (mayfly/measured.yaml) and carry what those leave out; prompts are
taken as free on our side, and on the API's as cheap as it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOUR_S = 3600
MILLION = 1e6
API_USD_IN = 2.0
API_USD_OUT = 12.0
API_SOURCE = "what users of the old way compared with, 2026-11-23; no vendor's list was read"


@dataclass(frozen=True, kw_only=True)
class Api:
    """What the other side asks for a million tokens, in dollars."""

    usd_in: float = API_USD_IN
    usd_out: float = API_USD_OUT

    @property
    def source(self) -> str:
        """Who says so."""
        return API_SOURCE if self == Api() else "as given on the command line"


@dataclass(frozen=True, kw_only=True)
class Point:
    """So many requests at a time, all the hour.

    usd_per_m: what a million generated tokens cost here. api_usd_per_h: what the API asks for an
    hour's. busy_share: the part of the hour that must be busy, where 1 or less is enough; above
    that, input_per_output: prompt tokens that each generated one must come with.
    """

    requests: int
    tok_s: float
    usd_per_m: float
    api_usd_per_h: float
    busy_share: float | None
    input_per_output: float | None


def points(speeds: Mapping[int, float], usd_per_h: float, api: Api) -> list[Point]:
    """A point for each measured number of requests. speeds: tokens/s of one request."""
    return [_point(n, speeds[n] * n, usd_per_h, api) for n in sorted(speeds)]


def _point(requests: int, tok_s: float, usd_per_h: float, api: Api) -> Point:
    millions = tok_s * HOUR_S / MILLION
    value = millions * api.usd_out
    short = usd_per_h - value
    per_output = short / (millions * api.usd_in) if short > 0 and api.usd_in > 0 else None
    return Point(
        requests=requests,
        tok_s=round(tok_s, 1),
        usd_per_m=round(usd_per_h / millions, 2),
        api_usd_per_h=round(value, 2),
        busy_share=round(usd_per_h / value, 3) if short <= 0 else None,
        input_per_output=None if per_output is None else round(per_output, 1),
    )


def sentence(point: Point) -> str:
    """When it pays, in words."""
    if point.busy_share is not None:
        return f"pays when {point.busy_share:.0%} of the hour is like that"
    if point.input_per_output is None:
        return "does not pay"
    return f"pays with {point.input_per_output:.0f} prompt tokens for each generated one, or more"


def as_dict(point: Point) -> dict[str, Any]:
    return dict(vars(point))
