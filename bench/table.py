"""A benchmark's result as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.result import load_of

COLUMNS = ("mean", "p50", "p90", "p99")
ROWS = (
    ("tokens/s per request", "tokens_per_s"),
    ("tokens/s per request, decode", "decode_tokens_per_s"),
    ("time to first token (TTFT), ms", "ttft_ms"),
    ("time per output token (TPOT), ms", "tpot_ms"),
    ("inter-token latency (ITL), ms", "itl_ms"),
    ("end to end, ms", "e2e_ms"),
)
BUSY_CLIENT = 0.8
"""From this part of a core on, the client is likely to be what is measured."""


def show(result: dict[str, Any]) -> None:
    """Print every phase."""
    console = Console()
    console.print(f"{result['model']} at {result['url']}")
    for phase in result["phases"]:
        console.print(table(phase))
        if phase["client_cpu_share"] > BUSY_CLIENT:
            share = phase["client_cpu_share"]
            console.print(
                f"The benchmark itself used {share:.0%} of a core: mistrust these figures."
            )


def table(phase: dict[str, Any]) -> Table:
    """One phase."""
    head = f"{load_of(phase)}: {phase['requests']} requests, {phase['errors']} failed"
    out = Table("", *COLUMNS, title=head, title_justify="left")
    for name, key in ROWS:
        figures = phase[key]
        out.add_row(name, *(f"{figures[k]:,.1f}" if figures else "-" for k in COLUMNS))
    out.add_section()
    total, usd = phase["total_tokens_per_s"], phase["usd_per_m_output_tokens"]
    out.add_row("tokens/s in all", f"{total:,.1f}" if total is not None else "-")
    if usd is not None:
        out.add_row("$ per million generated tokens", f"{usd:,.2f}")
    return out
