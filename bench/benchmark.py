"""How fast an endpoint answers: alone, and with several requests at once.

    python bench/benchmark.py --rounds 3 --concurrent 1,2,8,32
    python bench/benchmark.py --max-concurrency 8,32 --requests 200 --input-tokens 512
    python bench/benchmark.py --rate 4 --arrivals poisson --input-tokens normal:800:200

Errors are counted, never dropped; with any error the exit code is 1.
"""

import argparse
import asyncio
import json
import random
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.client import Endpoint, EndpointError, endpoint_arguments, positive
from bench.conditions import conditions
from bench.drive import run_phase
from bench.load import PROMPT, Aim, Ask, Load, asks, body, lengths, words
from bench.result import FORMAT
from bench.stream import Chats
from bench.table import show

ROUNDS, REQUESTS = 3, 100
FEW_WORDS, MANY_WORDS = 32, 544


def several(text: str) -> list[int]:
    """An argparse type: counts above zero, separated by commas."""
    return sorted({positive(int)(word) for word in text.split(",")})


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    # Without abbreviations: the key must be found in a command line that is kept.
    parser = argparse.ArgumentParser(
        description="Benchmark an OpenAI-compatible endpoint by streaming.", allow_abbrev=False
    )
    endpoint_arguments(parser)
    count = positive(int)
    shape = parser.add_argument_group("the load, one of three shapes")
    add = shape.add_argument
    add("--rounds", type=count, help=f"rounds of --concurrent together ({ROUNDS})")
    add("--concurrent", type=several, help="requests at once, e.g. 1,2,8; alone comes first (2)")
    add("--max-concurrency", type=several, help="or: a new request as soon as one ends, e.g. 8,32")
    add("--rate", type=positive(float), help="or: so many requests a second, whoever waits")
    add("--arrivals", choices=("fixed", "poisson"), help="with --rate (fixed)")
    add("--requests", type=count, help=f"how many, not in rounds ({REQUESTS})")
    add = parser.add_argument_group("the requests").add_argument
    lengths_help = "N, uniform:LOW:HIGH or normal:MEAN:DEVIATION"
    add("--prompt", help="what is asked")
    add("--input-tokens", type=lengths, help=f"random prompts instead: {lengths_help}")
    tokens = ("--output-tokens", "--max-tokens")
    add(*tokens, type=lengths, default=lengths("128"), help=f"{lengths_help} (%(default)s)")
    add("--warmup", type=int, default=1, help="requests before, not counted (%(default)s)")
    add("--seed", type=int, default=0, help="the same seed is the same load (%(default)s)")
    add = parser.add_argument_group("the result").add_argument
    add("--usd-per-hour", type=positive(float), help="what the server costs, for $ per token")
    add("--rate-source", default="the command line", help="who says so")
    add("--rate-date", default="", help="since when")
    add("--out", type=Path, help="write the result as JSON there too")
    options = parser.parse_args(arguments)
    if wrong := contradiction(options):
        parser.error(wrong)
    return options


def contradiction(options: argparse.Namespace) -> str:
    """What cannot be meant together, or would only be found out after the measurement; or ""."""
    others = options.max_concurrency or options.rate
    if others and (options.rounds or options.concurrent):
        return "rounds of --concurrent are one load, --max-concurrency and --rate are others"
    if options.requests and not others:
        return "--requests needs --max-concurrency or --rate"
    if options.arrivals and not options.rate:
        return "--arrivals needs --rate"
    if options.prompt and options.input_tokens:
        return "--prompt and --input-tokens are different prompts"
    if options.out and not options.out.absolute().parent.is_dir():
        return f"--out {options.out}: there is no such folder"
    return ""


def loads(options: argparse.Namespace, model: str) -> Iterator[Load]:
    """One load a phase."""
    same = {
        "model": model,
        "prompt": "" if options.input_tokens else options.prompt or PROMPT,
        "input_tokens": options.input_tokens,
        "output_tokens": options.output_tokens,
        "seed": options.seed,
        "rounds": None,
        "rate_per_s": None,
        "arrivals": None,
        "requests": options.requests or REQUESTS,
    }
    if options.rate:
        more = {"rate_per_s": options.rate, "arrivals": options.arrivals or "fixed"}
        for bound in options.max_concurrency or [None]:
            yield Load(**same | more, shape="arrivals", concurrent=bound)
    elif options.max_concurrency:
        for bound in options.max_concurrency:
            yield Load(**same, shape="continuous", concurrent=bound)
    else:
        for together in sorted({1, *(options.concurrent or [2])}):
            rounds = options.rounds or ROUNDS
            more = {"rounds": rounds, "requests": rounds * together}
            yield Load(**same | more, shape="rounds", concurrent=together)


async def measured(endpoint: Endpoint, phases: Sequence[Load], warmup: int) -> dict[str, Any]:
    """Every phase, after the warm-up. Raises EndpointError if it cannot begin."""
    # Differs between runs: a second run must not be served from the first one's cache.
    run = uuid.uuid4().hex
    async with Chats(endpoint) as chats:
        aim = await aimed(chats, phases[0], run) if phases[0].input_tokens else None
        for ask in asks(replace(phases[0], requests=warmup), aim, f"{run} warm-up"):
            await chats.stream(body(phases[0], ask))
        figures = [
            await run_phase(chats, load, list(asks(load, aim, f"{run} {number}")))
            for number, load in enumerate(phases)
        ]
    return {"aim": vars(aim) if aim else None, "phases": figures}


async def aimed(chats: Chats, load: Load, run: str) -> Aim:
    """Two prompts of known numbers of words, and how many tokens the server counts in them."""
    rng, counts = random.Random(run), []
    for number in (FEW_WORDS, MANY_WORDS):
        ask = Ask(prompt=words(rng, number), output_tokens=1, at_s=0)
        stream = await chats.stream(body(load, ask))
        counts.append((number, int((stream.usage or {}).get("prompt_tokens") or 0)))
    try:
        return Aim.learnt(*counts)
    except ValueError as error:
        raise EndpointError(f"no prompt length can be aimed at: it counts {error}") from error


def report(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """The result: all that is needed to repeat it, and every phase. Raises EndpointError."""
    endpoint = Endpoint(options.url, options.key, options.timeout_s)
    model = options.model or endpoint.first_model()
    phases = list(loads(options, model))
    told = conditions(endpoint, arguments)
    found = asyncio.run(measured(endpoint, phases, options.warmup))
    for phase in found["phases"]:
        phase["usd_per_m_output_tokens"] = usd_per_m(phase, options.usd_per_hour)
    return {
        "format": FORMAT,
        **told,
        "url": options.url,
        "model": model,
        "session": None,
        "rate": rate(options),
        "load": common(phases) | {"warmup": options.warmup, "aim": found["aim"]},
        "errors": sum(p["errors"] for p in found["phases"]),
        "phases": found["phases"],
    }


def common(phases: Sequence[Load]) -> dict[str, Any]:
    """What all phases have in common; where they differ, each says it itself."""
    first, *others = [load.as_dict() for load in phases]
    return {k: v for k, v in first.items() if all(other[k] == v for other in others)}


def rate(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.usd_per_hour is None:
        return None
    source = {"source": options.rate_source, "date": options.rate_date or None}
    return {"usd_per_hour": options.usd_per_hour, **source}


def usd_per_m(phase: dict[str, Any], usd_per_hour: float | None) -> float | None:
    """What a million generated tokens cost at this load; None without a rate, or a token."""
    tokens_per_s = phase["total_tokens_per_s"]
    if not usd_per_hour or not tokens_per_s:
        return None
    return float(round(usd_per_hour / 3600 / tokens_per_s * 1e6, 4))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every request succeeded, 1 otherwise."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parse(words)
    try:
        result = report(options, words)
    except EndpointError as error:
        print(f"No benchmark of {options.url}: {error}", file=sys.stderr)
        print("Nothing was measured. Is the tunnel up? Run: mayfly connect", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: nothing was kept.", file=sys.stderr)
        return 130
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    for phase in result["phases"]:
        for message, count in phase["error_messages"].items():
            print(f"{count} x {message}", file=sys.stderr)
    return 1 if result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
