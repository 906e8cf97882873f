"""Sends one phase of a load and measures it: one process, one event loop, any number of streams."""

import asyncio
import gc
import itertools
import time
from collections.abc import Sequence
from typing import Any

from bench.client import EndpointError
from bench.load import Ask, Load, body
from bench.stats import Sample, summary
from bench.stream import Chats

Outcome = Sample | str
"""A request's sample, or why there is none."""


class Phase:
    """One load on one endpoint, from the first request to the end of the last."""

    def __init__(self, chats: Chats, load: Load) -> None:
        self._chats, self._load = chats, load
        self._begun = time.perf_counter()

    async def run(self, asks: Sequence[Ask]) -> list[Outcome]:
        """Every request's outcome, in the order of the requests."""
        shapes = {"rounds": self.rounds, "continuous": self.continuous, "arrivals": self.arriving}
        return await shapes[self._load.shape](asks)

    async def rounds(self, asks: Sequence[Ask]) -> list[Outcome]:
        concurrent, outcomes = self._load.concurrent or 1, list[Outcome]()
        for first in range(0, len(asks), concurrent):
            together = asks[first : first + concurrent]
            outcomes += await asyncio.gather(*(self.send(ask) for ask in together))
        return outcomes

    async def continuous(self, asks: Sequence[Ask]) -> list[Outcome]:
        gate = asyncio.Semaphore(self._load.concurrent or len(asks))

        async def in_turn(ask: Ask) -> Outcome:
            async with gate:
                return await self.send(ask)

        return await asyncio.gather(*(in_turn(ask) for ask in asks))

    async def arriving(self, asks: Sequence[Ask]) -> list[Outcome]:
        """A request that finds `concurrent` others under way goes out late, and says so."""
        gate = asyncio.Semaphore(self._load.concurrent or len(asks))

        async def at_its_time(ask: Ask) -> Outcome:
            due = self._begun + ask.at_s
            await asyncio.sleep(due - time.perf_counter())
            async with gate:
                return await self.send(ask, due)

        return await asyncio.gather(*(at_its_time(ask) for ask in asks))

    async def send(self, ask: Ask, due: float | None = None) -> Outcome:
        """One request. due: when it should have gone out, on time.perf_counter's clock."""
        asked = body(self._load, ask)
        sent_at = time.perf_counter()
        try:
            stream = await self._chats.stream(asked, sent_at)
        except EndpointError as error:
            return str(error)
        usage = stream.usage or {}
        tokens = int(usage.get("completion_tokens") or 0)
        if not stream.arrivals_s or tokens < 1:
            return "the stream held no token, or no usage"
        return Sample(
            sent_s=sent_at - self._begun,
            late_s=sent_at - (sent_at if due is None else due),
            ttft_s=stream.arrivals_s[0],
            itl_s=tuple(b - a for a, b in itertools.pairwise(stream.arrivals_s)),
            e2e_s=stream.arrivals_s[-1],
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=tokens,
        )


async def run_phase(chats: Chats, load: Load, asks: Sequence[Ask]) -> dict[str, Any]:
    """A phase in figures. `client_cpu_share`: the part of one core that this process used itself;
    near 1, the figures are the client's and not the server's."""
    # What is there stays there: collecting it again and again would stop every stream's clock.
    gc.collect()
    gc.freeze()
    cpu_s, begun = time.process_time(), time.perf_counter()
    outcomes = await Phase(chats, load).run(asks)
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_s
    gc.unfreeze()
    samples = [o for o in outcomes if isinstance(o, Sample)]
    errors = [o for o in outcomes if isinstance(o, str)]
    head = {"concurrent": load.concurrent, "rate_per_s": load.rate_per_s}
    own = {"client_cpu_share": round(cpu_s / wall_s, 4)}
    return head | own | summary(samples, errors, wall_s)
