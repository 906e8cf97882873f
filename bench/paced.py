"""A server that streams at a set pace and does nothing else: what a client adds is then seen.

    python bench/paced.py --tokens-per-s 100

Prints its port. All streams get their next token together, as an engine's step brings them: the
hardest case for the client. Each token's text is the moment when it was written, on the clock that
all processes of a Linux machine share (time.perf_counter).
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

EVENT = {
    "id": "chatcmpl-a5601fff90adff0b",
    "object": "chat.completion.chunk",
    "created": 1795443687,
    "model": "paced",
    "choices": [{"index": 0, "delta": {"content": "%s"}, "logprobs": None, "finish_reason": None}],
}
"""As long as vLLM's own events are."""
TOKEN = f"data: {json.dumps(EVENT, separators=(',', ':'))}\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Streaming(asyncio.Protocol):
    """One connection: reads requests, and is asked for a token each tick."""

    def __init__(self, under_way: "set[Streaming]") -> None:
        self._under_way = under_way
        self._read = b""
        self._left = self._asked = self._prompt = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._under_way.discard(self)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, _, body = self._read.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if not length or len(body) < int(length):
            return
        self._read = b""
        asked = json.loads(body)
        self._asked = self._left = asked["max_tokens"]
        self._prompt = len(asked["messages"][0]["content"].split())
        self._transport.write(HEAD)
        self._under_way.add(self)

    def send_token(self) -> None:
        self._transport.write(chunk(TOKEN % f"{time.perf_counter():.7f} "))
        self._left -= 1
        if self._left:
            return
        usage = {"prompt_tokens": self._prompt, "completion_tokens": self._asked}
        last = json.dumps({"choices": [], "usage": usage})
        self._transport.write(chunk(f"data: {last}\n\n") + chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
        self._under_way.discard(self)


async def serve(tokens_per_s: float) -> None:
    """Until it is ended."""
    under_way: set[Streaming] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Streaming(under_way), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    due = time.perf_counter()
    while True:
        due += 1 / tokens_per_s
        await asyncio.sleep(due - time.perf_counter())
        for stream in tuple(under_way):
            stream.send_token()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Stream at a set pace.")
    parser.add_argument("--tokens-per-s", type=float, default=100.0)
    asyncio.run(serve(parser.parse_args(arguments).tokens_per_s))


if __name__ == "__main__":
    main()
