"""HTTP/1.1 for many streams in one process: when each piece of an answer came, and nothing else.

What a piece holds is read after its stream has ended (bench/stream.py), so that parsing one answer
delays the clock of no other. Why httptools and not a whole HTTP client: docs/decisions/0020.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

READ_BYTES = 32 * 1024
CONNECT_LIMIT_S = 10.0


class WireError(Exception):
    """No answer, or only half of one."""


class UnheardError(WireError):
    """The line was closed before one byte of an answer."""


@dataclass
class Answer:
    """pieces: (seconds on time.perf_counter's clock, bytes), as they arrived."""

    status: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class Wire(asyncio.BufferedProtocol):
    """One connection, kept between requests; one request at a time."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._answer = Answer()
        self._done: asyncio.Future[Answer] | None = None
        self._framed = False
        self._heard = False
        self._heard_at = 0.0
        self.usable = False

    async def ask(self, request: bytes, silence_s: float) -> Answer:
        """The whole answer. Raises WireError: a broken line, no HTTP, silence for so long."""
        assert self._transport is not None
        self._answer, self._framed, self._heard = Answer(), False, False
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._heard_at = time.perf_counter()
        self._transport.write(request)
        try:
            return await self._wait(self._done, silence_s)
        finally:
            if not self._done.done() or self._done.exception():
                self.close()
            self._done = None

    async def _wait(self, done: asyncio.Future[Answer], silence_s: float) -> Answer:
        """One look per span of silence: a timer for each event would cost more than the event."""
        while not done.done():
            left_s = self._heard_at + silence_s - time.perf_counter()
            if left_s <= 0:
                done.set_exception(WireError(f"silence for {silence_s:g} s"))
            else:
                await asyncio.wait([done], timeout=left_s)
        return done.result()

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: WireError | None = None) -> None:
        """The answer is as complete as it will be; error: why that is not enough."""
        if self._done is None or self._done.done():
            return
        if error is not None:
            self._done.set_exception(error)
        else:
            self._done.set_result(self._answer)

    # -- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._heard, self._heard_at = True, time.perf_counter()
        if self._done is None:
            self.close()  # words between two answers
            return
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserError as error:
            self._end(WireError(f"not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        # Without a length or chunks, the end of the line is the end of the answer.
        whole = exc is None and self._answer.status and not self._framed
        kind = WireError if self._heard else UnheardError
        self._end(None if whole else kind(f"the line broke: {exc or 'closed by the server'}"))

    # -- httptools'

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._answer.pieces.append((self._heard_at, body))

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        if not self.usable:
            self.close()
        self._end()


class Wires:
    """Connections to one server, as many as there are requests at a time.

    base: scheme, host and port are taken from it. silence_s: the longest wait for the next byte.
    """

    def __init__(self, base: str, headers: Mapping[str, str], silence_s: float) -> None:
        parts = urlsplit(base)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        own = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json"}
        lines = [f"{name}: {value}\r\n" for name, value in (own | dict(headers)).items()]
        self._headers = "".join(lines).encode("latin-1")
        self._silence_s = silence_s
        self._idle: list[Wire] = []

    async def __aenter__(self) -> "Wires":
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)  # aborted transports close in the loop's next round

    async def post(self, path: str, body: bytes) -> Answer:
        """The answer to one POST. Raises WireError."""
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        request = f"POST {path} HTTP/1.1\r\n".encode() + self._headers + length + body
        if (kept := self._kept()) is not None:
            # The server may close a line that lies idle just as we ask on it: then on another.
            with contextlib.suppress(UnheardError):
                return await self._ask(kept, request)
        return await self._ask(await self._connected(), request)

    def _kept(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                return wire
        return None

    async def _ask(self, wire: Wire, request: bytes) -> Answer:
        answer = await wire.ask(request, self._silence_s)
        if wire.usable:
            self._idle.append(wire)
        return answer

    async def _connected(self) -> Wire:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._secure else None
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                _, wire = await loop.create_connection(Wire, self._host, self._port, ssl=context)
        except TimeoutError as error:
            raise WireError(f"no connection within {CONNECT_LIMIT_S:g} s") from error
        except OSError as error:
            raise WireError(f"no connection: {error}") from error
        return wire
