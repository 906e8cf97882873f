"""Lengths of time as people type them: "90m", "2h"."""

import re

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> int | None:
    """Seconds of a whole number and its unit; None for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    return int(found[1]) * UNITS_S[found[2]] if found else None
