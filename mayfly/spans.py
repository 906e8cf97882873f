"""Lengths of time as people type and read them: "90m", "2h"; "12 min"."""

import re

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> int | None:
    """Seconds of a whole number and its unit; None for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(found[1]) * UNITS_S[found[2]] if found else None


def minutes(seconds: float) -> str:
    """Seconds for people: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 120 else f"{whole // 60} h {whole % 60} min"


def when(stamped: str, left_s: float) -> str:
    """ "2026-11-23T20:30:00Z (in 8 min)"; left_s is negative for what was."""
    return f"{stamped} ({f'in {minutes(left_s)}' if left_s >= 0 else f'{minutes(-left_s)} ago'})"
