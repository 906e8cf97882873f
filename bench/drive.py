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
from bench.wire import Answer

Outcome = Sample | str
"""A request's sample, or why there is none."""


class Phase:
    """One load on one endpoint, from the first request to the last token.

    Answers are read while others are under way, but the next request waits for no reading.
    """

    def __init__(self, chats: Chats, load: Load) -> None:
        self._chats, self._load = chats, load
        self._reading: list[asyncio.Task[Outcome]] = []
        self._begun = self._ended = time.perf_counter()

    async def run(self, asks: Sequence[Ask]) -> tuple[list[Outcome], float]:
        """Every request's outcome, and the seconds until the last byte came."""
        shapes = {"rounds": self.rounds, "continuous": self.continuous, "arrivals": self.arriving}
        await shapes[self._load.shape](asks)
        return await asyncio.gather(*self._reading), self._ended - self._begun

    async def rounds(self, asks: Sequence[Ask]) -> None:
        concurrent = self._load.concurrent or 1
        for first in range(0, len(asks), concurrent):
            await asyncio.gather(*(self.send(ask) for ask in asks[first : first + concurrent]))

    async def continuous(self, asks: Sequence[Ask]) -> None:
        gate = asyncio.Semaphore(self._load.concurrent or len(asks))

        async def in_turn(ask: Ask) -> None:
            async with gate:
                await self.send(ask)

        await asyncio.gather(*(in_turn(ask) for ask in asks))

    async def arriving(self, asks: Sequence[Ask]) -> None:
        """A request that finds `concurrent` others under way goes out late, and says so."""
        gate = asyncio.Semaphore(self._load.concurrent or len(asks))

        async def at_its_time(ask: Ask) -> None:
            due = self._begun + ask.at_s
            await asyncio.sleep(due - time.perf_counter())
            async with gate:
                await self.send(ask, due)

        await asyncio.gather(*(at_its_time(ask) for ask in asks))

    async def send(self, ask: Ask, due: float | None = None) -> None:
        """One request, to its end. due: when it should have gone out."""
        asked = body(self._load, ask)
        sent_at = time.perf_counter()
        late_s = 0.0 if due is None else sent_at - due
        answer: Answer | EndpointError
        try:
            answer = await self._chats.ask(asked)
            ended = answer.pieces[-1][0] if answer.pieces else time.perf_counter()
        except EndpointError as error:
            answer, ended = error, time.perf_counter()
        self._ended = max(self._ended, ended)
        self._reading.append(asyncio.create_task(self.read(answer, sent_at, late_s)))

    async def read(self, answer: Answer | EndpointError, sent_at: float, late_s: float) -> Outcome:
        try:
            if isinstance(answer, EndpointError):
                raise answer
            stream = await self._chats.read(answer, sent_at)
        except EndpointError as error:
            return str(error)
        usage = stream.usage or {}
        tokens = int(usage.get("completion_tokens") or 0)
        if not stream.arrivals_s or tokens < 1:
            return "the stream held no token, or no usage"
        return Sample(
            sent_s=sent_at - self._begun,
            late_s=late_s,
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
    outcomes, wall_s = await Phase(chats, load).run(asks)
    cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - begun)
    gc.unfreeze()
    samples = [o for o in outcomes if isinstance(o, Sample)]
    errors = [o for o in outcomes if isinstance(o, str)]
    head = {"concurrent": load.concurrent, "rate_per_s": load.rate_per_s}
    own = {"client_cpu_share": round(cpu_share, 4)}
    return head | own | summary(samples, errors, wall_s)
