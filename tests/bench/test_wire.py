"""The streaming client against servers that answer in every way a line can break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bench.wire import Answer, WireError, Wires

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[str]:
    """A server whose n-th connection follows the n-th script."""
    waiting, meetings = list(scripts), list[asyncio.Task[None] | None]()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        meetings.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await waiting.pop(0)(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        await asyncio.gather(*(task for task in meetings if task))
        assert not waiting


async def request(reader: asyncio.StreamReader) -> bytes:
    """One request of the client's; its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


def says(*parts: bytes) -> Script:
    """Read one request, write the parts one by one, close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return script


def posts(*bodies: bytes, silence_s: float = 30) -> Callable[[str], Awaitable[list[Answer]]]:
    async def ask(url: str) -> list[Answer]:
        async with Wires(url, {}, silence_s) as wires:
            return [await wires.post("/v1/x", body) for body in bodies]

    return ask


def run(ask: Callable[[str], Awaitable[list[Answer]]], *scripts: Script) -> list[Answer]:
    async def both() -> list[Answer]:
        async with scripted(*scripts) as url:
            return await ask(url)

    return asyncio.run(both())


def test_wires_join_what_came_in_pieces_when_chunks_are_torn():
    """TCP tears where it likes; a byte lost here would be a token lost."""
    text = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    torn = [text[i : i + 1] for i in range(len(text))]

    (answer,) = run(posts(b"{}"), says(*torn))

    assert (answer.status, answer.body()) == (200, b"hello world")
    times = [at for at, _ in answer.pieces]
    assert times == sorted(times)


def test_wires_take_the_end_of_the_line_for_the_end_when_no_length_is_told():
    """HTTP/1.0 servers and many stubs end an answer so."""
    (answer,) = run(posts(b"{}"), says(b"HTTP/1.0 200 OK\r\n\r\nall of it"))

    assert answer.body() == b"all of it"


def test_wires_keep_the_line_between_requests_when_the_server_does():
    """A new connection a request would be in every time to first token."""

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            body = await request(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    answers = run(posts(b"one", b"two"), twice)

    assert [a.body() for a in answers] == [b"one", b"two"]


def test_wires_ask_again_when_the_server_closed_an_idle_line():
    """uvicorn closes after five idle seconds: between two rounds, and that is no failed request."""
    kept = says(OK + b"Content-Length: 3\r\n\r\none")

    async def pausing(url: str) -> list[Answer]:
        async with Wires(url, {}, 30) as wires:
            first = await wires.post("/v1/x", b"1")
            return [first, await wires.post("/v1/x", b"2")]

    answers = run(pausing, kept, says(OK + b"Content-Length: 3\r\n\r\ntwo"))

    assert [a.body() for a in answers] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([OK + b"Content-Length: 9\r\n\r\nhalf"], "the line broke"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"], "the line broke"),
        ([], "the line broke"),
        ([b"SSH-2.0-OpenSSH\r\n"], "not HTTP"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], "not HTTP"),
    ],
)
def test_wires_say_what_broke_when_an_answer_is_not_whole(parts, message):
    """Half an answer counted as a whole one would be a fast one."""
    with pytest.raises(WireError, match=message):
        run(posts(b"{}"), says(*parts))


def test_wires_give_up_when_the_server_falls_silent():
    """A benchmark that hangs costs the same by the hour."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await reader.read()  # until the client is gone

    with pytest.raises(WireError, match=r"silence for 0\.3 s"):
        run(posts(b"{}", silence_s=0.3), silent)


def test_wires_say_so_when_nobody_listens():
    """The usual reason is a missing tunnel."""
    with pytest.raises(WireError, match="no connection"):
        asyncio.run(posts(b"{}")("http://127.0.0.1:9/v1"))
