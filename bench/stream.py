"""One streamed chat: the server-sent events of an answer, each with the moment when it came."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bench.client import Endpoint, EndpointError, one_line
from bench.wire import Answer, WireError, Wires

# What a chunk's delta may carry of the answer; servers name the thinking either way.
TOKEN_PARTS = ("content", "reasoning", "reasoning_content", "tool_calls")
BREATH = 32
"""Events read before other streams have their turn: 0.3 ms of parsing delay no clock much."""


@dataclass
class Stream:
    """What one streamed chat brought. Times are seconds since the request was sent.

    arrivals_s: one entry a chunk that carried text, reasoning or part of a tool call. A chunk
    may carry several tokens, so tokens come from `usage`, never from counting chunks.
    """

    arrivals_s: list[float] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] | None = None


class Chats:
    """Streamed chats with one endpoint; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._path = endpoint.path("chat/completions")
        self._wires = Wires(endpoint.url, endpoint.headers(), endpoint.timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._wires.__aexit__(*error)

    async def ask(self, body: dict[str, Any]) -> Answer:
        """Send one chat and wait for its end, unread. Raises EndpointError without an answer."""
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            return await self._wires.post(self._path, json.dumps(asked).encode())
        except WireError as error:
            raise EndpointError(str(error)) from error

    async def read(self, answer: Answer, sent_at: float) -> Stream:
        """What the answer holds. sent_at: on time.perf_counter's clock, where times begin.

        Raises EndpointError when it was refused, garbled or cut short.
        """
        if answer.status != 200:
            text = one_line(answer.body().decode(errors="replace"))
            raise EndpointError(f"HTTP {answer.status}: {text}")
        stream = Stream()
        async for at, event in events(answer.pieces):
            take(stream, event, at - sent_at)
        return stream

    async def stream(self, body: dict[str, Any]) -> Stream:
        """One chat, sent and read."""
        sent_at = time.perf_counter()
        return await self.read(await self.ask(body), sent_at)


def stream_chat(endpoint: Endpoint, body: dict[str, Any]) -> Stream:
    """One chat, alone. Raises EndpointError as `Chats.ask` and `Chats.read` do."""

    async def alone() -> Stream:
        async with Chats(endpoint) as chats:
            return await chats.stream(body)

    return asyncio.run(alone())


async def events(
    pieces: Sequence[tuple[float, bytes]],
) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """When each event was whole, and its JSON. EndpointError if the final [DONE] is missing."""
    rest = b""
    for number, (at, piece) in enumerate(pieces):
        if number % BREATH == 0:
            await asyncio.sleep(0)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                return
            yield at, parsed(data)
    raise EndpointError("the stream ended without [DONE]")


def parsed(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise EndpointError(f"not JSON in the stream: {data[:200]!r}") from error
    if not isinstance(event, dict) or "error" in event:
        raise EndpointError(f"an error in the stream: {data[:200]!r}")
    return event


def take(stream: Stream, event: dict[str, Any], now_s: float) -> None:
    """Add one event to a stream."""
    stream.usage = event.get("usage") or stream.usage
    for choice in event.get("choices") or []:
        delta = choice.get("delta") or {}
        if any(delta.get(part) for part in TOKEN_PARTS):
            stream.arrivals_s.append(now_s)
        stream.text += delta.get("content") or ""
        stream.reasoning += delta.get("reasoning") or delta.get("reasoning_content") or ""
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
