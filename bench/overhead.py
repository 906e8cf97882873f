"""What the benchmark itself adds to what it measures, against a server that only keeps a pace.

    python bench/overhead.py [--out docs/results]

The server (bench/paced.py) has one core, the benchmark another. Each token says when it was
written, so every event's way to our clock is known. OUT/bench-overhead.md is the table,
OUT/raw/<date>-bench-overhead.json what it is made from. Exit 1 where a bound is broken.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.client import Endpoint
from bench.drive import run_phase
from bench.load import Load, asks, lengths
from bench.stats import spread
from bench.stream import Chats, Stream
from bench.wire import Answer

ROOT = Path(__file__).resolve().parent.parent
TOKENS_PER_S = 100.0
STREAMS = (1, 64, 256)
SECONDS = 10
MOST_ADDED = 0.05
"""The bound, at 64 streams: shares of the pace, and of one core."""
BOUND_STREAMS = 64
STEADY = 0.02
"""A server further from its own pace than this has measured itself, not the client."""


class Watched(Chats):
    """Keeps each stream and when it was sent."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.kept: list[tuple[float, Stream]] = []

    async def read(self, answer: Answer, sent_at: float) -> Stream:
        found = await super().read(answer, sent_at)
        self.kept.append((sent_at, found))
        return found


def load(streams: int, tokens: int) -> Load:
    return Load(
        model="paced",
        shape="continuous",
        prompt="Count.",
        input_tokens=None,
        output_tokens=lengths(str(tokens)),
        concurrent=streams,
        rounds=None,
        requests=streams,
        rate_per_s=None,
        arrivals=None,
        seed=0,
    )


async def measured(url: str, streams: int, tokens: int) -> dict[str, Any]:
    """One number of streams, each of so many tokens: our figures beside the server's own."""
    async with Watched(Endpoint(url, "")) as chats:
        wanted = load(streams, tokens)
        phase = await run_phase(chats, wanted, list(asks(wanted, None, "overhead")))
        return {"streams": streams, "tokens": tokens, **compared(phase, chats.kept)}


def compared(phase: dict[str, Any], kept: Sequence[tuple[float, Stream]]) -> dict[str, Any]:
    """Milliseconds, and shares of the pace. late_ms: from the server's write to our clock."""
    if not kept:
        raise RuntimeError(f"no stream came to its end: {phase['error_messages']}")
    late_ms, theirs_ms, spans_s = [], [], []
    first_sent, last_written, tokens = min(sent_at for sent_at, _ in kept), 0.0, 0
    for sent_at, stream in kept:
        written = [float(word) for word in stream.text.split()]
        arrived = [sent_at + at_s for at_s in stream.arrivals_s]
        late_ms += [1000 * (a - w) for a, w in zip(arrived, written, strict=True)]
        theirs_ms += [1000 * (b - a) for a, b in pairwise(written)]
        last_written, tokens = max(last_written, written[-1]), tokens + len(written)
        spans_s.append((written[-1] - written[0]) / (len(written) - 1))
    theirs, ours, late = spread(theirs_ms), phase["itl_ms"], spread(late_ms)
    assert theirs is not None
    assert late is not None
    pace_ms, tpot_ms = 1000 / TOKENS_PER_S, 1000 * sum(spans_s) / len(spans_s)
    return {
        "errors": phase["errors"],
        "tokens_per_s": phase["total_tokens_per_s"],
        "client_cpu_share": phase["client_cpu_share"],
        "late_ms": late,
        "itl_ms": {"server": theirs, "ours": ours},
        "tpot_ms": {"server": round(tpot_ms, 4), "ours": phase["tpot_ms"]["mean"]},
        "pace_kept": round(tpot_ms / pace_ms - 1, 4),
        "added": {
            "tokens_per_s": round(
                phase["total_tokens_per_s"] * (last_written - first_sent) / tokens - 1, 4
            ),
            "tpot": round(phase["tpot_ms"]["mean"] / tpot_ms - 1, 4),
            "itl_p50": round((ours["p50"] - theirs["p50"]) / pace_ms, 4),
            "itl_p99": round((ours["p99"] - theirs["p99"]) / pace_ms, 4),
            "late_mean": round(late["mean"] / pace_ms, 4),
        },
    }


def problems(row: dict[str, Any]) -> list[str]:
    """What breaks the bound; [] where all holds."""
    if row["errors"]:
        return [f"{row['errors']} requests failed"]
    if abs(row["pace_kept"]) > STEADY:
        return [f"the server was {row['pace_kept']:+.1%} off its own pace: nothing is measured"]
    over = {k: v for k, v in row["added"].items() if abs(v) > MOST_ADDED}
    return [f"{name} {value:+.1%}" for name, value in over.items()]


@contextlib.contextmanager
def paced(cpu: int) -> Iterator[str]:
    """The server's base URL. It has this CPU and is gone afterwards."""
    command = [sys.executable, "-m", "bench.paced", "--tokens-per-s", str(TOKENS_PER_S)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            os.sched_setaffinity(server.pid, {cpu})
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.terminate()


def rows(seconds: float) -> list[dict[str, Any]]:
    """Every number of streams, on the first and the last of our CPUs."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[0]})
    try:
        with paced(cpus[-1]) as url:
            tokens = round(seconds * TOKENS_PER_S)
            return [asyncio.run(measured(url, streams, tokens)) for streams in STREAMS]
    finally:
        os.sched_setaffinity(0, set(cpus))


HEAD = """# What the benchmark adds to what it measures

{date}, {cpus} CPUs, load average {load:.1f} when it began{priority}. Made by

```
{command}
```

One process drives all streams on one core; a server that only keeps a pace of {pace:g} tokens/s a
stream has another. All streams get their token together, as an engine's step brings them.

| streams | tokens/s | of one core | tokens/s | TPOT | ITL p50 | ITL p99 | late: mean | p99, ms |
|---|---|---|---|---|---|---|---|---|
"""

PRIORITY = """: a machine shared with other work, before
which both processes had real-time priority"""
TAIL = """
- `of one core`: the benchmark's own CPU time by wall time, parsing included.
- `tokens/s`, `TPOT`, `ITL`: ours less the server's own; ITL in shares of the pace ({gap:g} ms).
- `late`: from the moment at which the server wrote a token to the moment that we gave it, kernel
  included; the mean in shares of the pace. It is in every time to first token.
- The bound is {most:.0%} for each of them and for the mean of late, at {bound} streams: {verdict}.
- The CPU share has no bound of its own: it costs the figures nothing until the core is full.
"""


def page(found: dict[str, Any]) -> str:
    """The table."""
    lines = []
    for row in found["rows"]:
        added = [f"{share:+.2%}" for share in row["added"].values()]
        cells = [row["streams"], f"{row['tokens_per_s']:,.0f}", f"{row['client_cpu_share']:.1%}"]
        lines.append(f"| {' | '.join(map(str, [*cells, *added, row['late_ms']['p99']]))} |")
    broken = found["problems"]
    facts = {
        "date": found["date"],
        "cpus": found["cpus"],
        "load": found["load_average"],
        "priority": PRIORITY if found["real_time"] else "",
        "command": ("chrt -f 1 " if found["real_time"] else "") + "python bench/overhead.py",
    }
    tail = {"most": MOST_ADDED, "bound": BOUND_STREAMS, "gap": 1000 / TOKENS_PER_S}
    verdict = f"broken ({'; '.join(broken)})" if broken else "kept"
    return (
        HEAD.format(**facts, pace=TOKENS_PER_S)
        + "\n".join(lines)
        + "\n"
        + TAIL.format(**tail, verdict=verdict)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where the bound holds."""
    parser = argparse.ArgumentParser(description="Measure the benchmark's own overhead.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per number of streams")
    options = parser.parse_args(arguments)
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "real_time": os.sched_getscheduler(0) == os.SCHED_FIFO,
    }
    found = rows(options.seconds)
    bound = [row for row in found if row["streams"] == BOUND_STREAMS]
    broken = [problem for row in bound for problem in problems(row)]
    whole = {**facts, "seconds": options.seconds, "rows": found, "problems": broken}
    raw = options.out / "raw" / f"{facts['date']}-bench-overhead.json"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text(json.dumps(whole, indent=1) + "\n")
    (options.out / "bench-overhead.md").write_text(page(whole))
    print(page(whole))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
