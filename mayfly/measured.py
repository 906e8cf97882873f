"""What was measured, beside what is planned: a speed is told with its basis or not at all."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("measured.yaml")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Decode speed of one layout. tok_s_per_request: by requests at a time."""

    config: str
    gpu: str
    tp: int
    dcp: int
    kind: str
    engine: str
    date: str
    source: str
    context_tokens: int
    tok_s_per_request: dict[int, float]

    @property
    def basis(self) -> str:
        """How far the figures can be trusted, in one sentence."""
        leaves_out = (
            f"one of {self.tp} ranks alone on one {self.gpu}, dummy weights: no all-reduce between "
            "GPUs, so an upper bound"
            if self.kind == "rank" and self.tp > 1
            else f"the whole model on {self.tp} x {self.gpu}"
        )
        return (
            f"measured {self.date} with vLLM {self.engine} at {self.context_tokens} tokens of "
            f"context, shapes of {self.config}: {leaves_out} ({self.source})"
        )


def find(config: str | None, gpu: str, tp: int, dcp: int) -> Measured | None:
    """The newest measurement of exactly this layout; None where nobody has measured it."""
    same = [
        row for row in shipped() if (row.config, row.gpu, row.tp, row.dcp) == (config, gpu, tp, dcp)
    ]
    return max(same, key=lambda row: row.date, default=None)


def context_parallelism() -> str:
    """What context parallelism cost where somebody measured it, in a sentence's end."""
    found = _table()["context_parallelism"]
    costs = ", ".join(f"{cost} % with {n}" for n, cost in found["cost_percent"].items())
    return (
        f"sharing the context out cost each request {costs} at a time, measured {found['date']} "
        f"with vLLM {found['engine']} ({found['layout']})"
    )


def _table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TABLE.read_text())
    return found


@cache
def shipped() -> tuple[Measured, ...]:
    """The table that ships with mayfly."""
    return tuple(Measured(**row) for row in _table()["runs"])
