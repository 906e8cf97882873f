"""The figures of the scripts that mayfly replaces, beside a run's own; and where they do not match.

Theirs are from one machine (a3-highgpu-8g, vLLM 0.15.0, Kimi K2.5) and were written down by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

START_S = (15 * 60, 20 * 60)
USD_PER_HOUR = {"H100": 26.0, "A100": 20.0}
MACHINE = "a3-highgpu-8g"
MODEL = "kimi-k2.5"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of both. ours: "-" where this run has none; but: why the two do not compare."""

    figure: str
    theirs: str
    ours: str
    but: str


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Every figure that the old way left, in its own order."""
    session = result["session"] or {}
    started_s = session.get("started_s")
    window = session.get("max_model_len")
    per_hour = (result["rate"] or {}).get("usd_per_hour")
    pairs: list[tuple[str, str, Any, Callable[[Any], str]]] = [
        ("tokens/s alone, 128 tokens", "112", speed(result, 1), "{:.0f}".format),
        ("tokens/s each, two at once, 64 tokens", "108", speed(result, 2), "{:.0f}".format),
        ("minutes to the first answer", "15 to 20", started_s, lambda s: f"{s / 60:.1f}"),
        ("context, tokens", '8,192; 32,768 as "INT4"', window, "{:,}".format),
        ("dollars an hour", "26 (H100), 20 (A100)", per_hour, "{:.2f}".format),
        ("idle minutes before it ends", "20", session.get("idle_s"), lambda s: f"{s / 60:g}"),
    ]
    other = unlike(result)
    return [
        Row(
            figure=figure,
            theirs=theirs,
            ours="-" if value is None else say(value),
            but="not measured in this run" if value is None else other,
        )
        for figure, theirs, value, say in pairs
    ]


def speed(result: Mapping[str, Any], concurrent: int) -> float | None:
    """As the old way counted: tokens by the whole request, first-token time included."""
    for phase in result["phases"]:
        if phase["concurrent"] == concurrent and not phase["rate_per_s"] and phase["tokens_per_s"]:
            return float(phase["tokens_per_s"]["mean"])
    return None


def unlike(result: Mapping[str, Any]) -> str:
    """Why figures of this run are not the old way's kind; "" where they are."""
    session = result["session"]
    if session is None:
        return "what machine served is not known"
    if session.get("basis"):
        return str(session["basis"])
    if session.get("machine") != MACHINE:
        return f"another machine: {session.get('machine')}"
    if not str(session.get("profile")).startswith(MODEL):
        return f"another model: {session.get('profile')}"
    return ""
