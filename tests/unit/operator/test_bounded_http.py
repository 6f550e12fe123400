"""One answer of a server that sends whatever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from kubeseg_operator.bounded_http import MAX_HEAD_BYTES, BadAnswerError, Limits, get

LIMITS = Limits(size=1000, connect=5, total=20)
OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Sends `parts` to whoever asks, one by one; then closes, or leaves the connection open."""

    def __init__(self) -> None:
        self.parts: Iterable[bytes] = ()
        self.open = False
        self.port = 0
        self.asked = b""
        self.begun, self.left = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError):
            self.asked = await reader.readuntil(b"\r\n\r\n")
            self.begun.set()
            for part in self.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)  # the reader's turn
            if self.open:
                await reader.read()
        writer.close()
        self.left.set()

    async def get(self, limits: Limits = LIMITS) -> bytes:
        """Ask it."""
        return await get("127.0.0.1", self.port, "/progress?seq=1", limits)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    played = Server()
    async with await asyncio.start_server(played.serve, "127.0.0.1", 0) as listening:
        played.port = listening.sockets[0].getsockname()[1]
        yield played


def forever(part: bytes) -> Iterable[bytes]:
    while True:
        yield part


def single(text: bytes) -> Iterable[bytes]:
    return (text[at : at + 1] for at in range(len(text)))


@pytest.mark.parametrize(
    ("parts", "left_open", "body"),
    [
        ([OK + b"Content-Length: 2\r\n\r\n{}"], True, b"{}"),
        ([OK + b"content-LENGTH:2\r\n\r\n{} and more"], True, b"{}"),
        ([OK + b"Content-Length: 0\r\n\r\n"], True, b""),
        (single(OK + b"Content-Length: 2\r\n\r\n{}"), True, b"{}"),
        ([b"HTTP/1.0 200\r\n\r\n{", b"}"], False, b"{}"),
        ([OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 500, b"x" * 500], True, b"x" * 1000),
        ([OK + b"\r\n" + b"x" * 1000], False, b"x" * 1000),
        ([OK + b"Content-Encoding: identity\r\n\r\n{}"], False, b"{}"),
        ([OK + b"A: " + b"x" * (MAX_HEAD_BYTES - 24) + b"\r\n\r\n{}"], False, b"{}"),
    ],
)
async def test_plain_answers(
    server: Server, parts: Iterable[bytes], left_open: bool, body: bytes
) -> None:
    server.parts, server.open = parts, left_open
    assert await server.get() == body


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (forever(b"HTTP/1.1 100 Continue\r\n\r\n"), "status 100"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "status 204"),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"], "status 302"),
        ([b"HTTP/1.1 404 Not Found\r\n\r\n"], "status 404"),
        (forever(b"x"), "no HTTP answer in 8192 bytes"),
        ([OK, *[b"Set-Cookie: " + b"(" * 1024 + b"=1\r\n"] * 9], "no HTTP answer in 8192"),
        ([], "no HTTP answer in 0 bytes"),
        ([OK], "no HTTP answer in 17 bytes"),
        ([b"HTTP/2 200 OK\r\n\r\n{}"], "no HTTP answer"),
        ([b"\r\n\r\n{}"], "no HTTP answer"),
        ([OK + b"\r\n", *[b"x" * 300] * 4], "more than 1000 bytes"),
        (forever(OK + b"\r\n" + b"x" * 100_000), "more than 1000 bytes"),
        ([OK + b"Content-Length: 1001\r\n\r\n"], "more than 1000 bytes"),
        ([OK + b"Content-Length: 3\r\n\r\n{}"], "ended after 2 of 3 bytes"),
        ([OK + b"Content-Length: -1\r\n\r\n"], "Content-Length is no number"),
        ([OK + b"Content-Length: 1_0\r\n\r\n"], "Content-Length is no number"),
        ([OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"], "Content-Length is no number"),
        ([OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"], "or is there twice"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"], "chunked"),
        ([OK + b"Content-Encoding: gzip\r\n\r\n{}"], "compressed"),
    ],
)
async def test_what_is_no_plain_answer(
    server: Server, parts: Iterable[bytes], sentence: str
) -> None:
    server.parts = parts
    with pytest.raises(BadAnswerError, match=sentence):
        await server.get()
    async with asyncio.timeout(5):
        await server.left.wait()  # the connection is gone


async def test_the_request(server: Server) -> None:
    server.parts = [OK + b"\r\n"]
    await server.get()
    line, *headers = server.asked.decode().split("\r\n")
    assert line == "GET /progress?seq=1 HTTP/1.1"
    assert headers[:3] == [
        f"Host: 127.0.0.1:{server.port}",
        "Accept-Encoding: identity",
        "Connection: close",
    ]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address(server: Server) -> None:
    server.parts = [OK + b"\r\n{}"]
    async with await asyncio.start_server(server.serve, "::1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert await get("::1", port, "/", LIMITS) == b"{}"
    assert f"Host: [::1]:{port}\r\n".encode() in server.asked


@pytest.mark.parametrize("parts", [[], [OK], [OK + b"Content-Length: 9\r\n\r\n{"]])
async def test_one_that_hangs_is_left(server: Server, parts: list[bytes]) -> None:
    server.parts, server.open = parts, True
    with pytest.raises(TimeoutError):
        await server.get(Limits(size=1000, connect=5, total=0.1))
    async with asyncio.timeout(5):
        await server.left.wait()


async def test_who_gives_up_leaves_no_connection(server: Server) -> None:
    server.open = True
    asking = asyncio.ensure_future(server.get())
    async with asyncio.timeout(5):
        await server.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await server.left.wait()


async def test_nobody_there_is_an_os_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await get("127.0.0.1", closed.getsockname()[1], "/", LIMITS)


async def test_single_bytes_are_read_in_gulps(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a pod that sends them all the time keeps the loop busy for the whole poll."""
    loop, reads = asyncio.get_running_loop(), 0
    receive: Callable[[socket.socket, int], object] = loop.sock_recv

    def counted(connection: socket.socket, most: int) -> object:
        nonlocal reads
        reads += 1
        return receive(connection, most)

    monkeypatch.setattr(loop, "sock_recv", counted)
    server.parts = single(OK + b"\r\n" + b"x" * 1000)
    assert await server.get() == b"x" * 1000
    assert reads < 100
