"""One GET of a server that may be hostile: bounded in bytes, time and work.

A general client follows what HTTP allows, such as any number of `100 Continue`; this one takes
exactly one answer. It reads the socket itself, never more than it asked for: a stream's transport
would wake the loop for each packet of one byte.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass

#: Bytes of the status line and all headers.
MAX_HEAD_BYTES = 8 * 1024
_READ = 64 * 1024
#: Seconds from one read to the next, doubled each time: who sends byte by byte is read in gulps.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,18}")


class BadAnswerError(Exception):
    """The server answered with something else than a small, plain 200."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`size`: bytes of the body; `connect` and `total`: seconds."""

    size: int
    connect: float
    total: float


async def get(host: str, port: int, path: str, limits: Limits) -> bytes:
    """The body of `GET path` of this IP address.

    Raises BadAnswerError, TimeoutError, or OSError where there is no connection.
    """
    name = f"[{host}]" if ":" in host else host
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nAccept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as connection:
        connection.setblocking(False)
        async with asyncio.timeout(limits.total):
            async with asyncio.timeout(limits.connect):
                await loop.sock_connect(connection, (host, port))
            await loop.sock_sendall(connection, request)
            return await _answer(connection, limits.size)


async def _answer(connection: socket.socket, most: int) -> bytes:
    loop = asyncio.get_running_loop()
    got, pause = bytearray(), _FIRST_PAUSE
    # Of the body, once the head is there.
    begin = 0
    length: int | None = None
    while True:
        read = await loop.sock_recv(connection, min(_READ, MAX_HEAD_BYTES + most + 1 - len(got)))
        searched = max(0, len(got) - 3)
        got += read
        if not begin and (end := got.find(b"\r\n\r\n", searched, MAX_HEAD_BYTES)) >= 0:
            begin, length = end + 4, _length(bytes(got[:end]))
        if not begin and (len(got) >= MAX_HEAD_BYTES or not read):
            raise BadAnswerError(f"no HTTP answer in {min(len(got), MAX_HEAD_BYTES)} bytes")
        size = len(got) - begin if length is None else length
        if begin and size > most:
            raise BadAnswerError(f"more than {most} bytes")
        if length is not None and len(got) >= begin + length:
            return bytes(got[begin : begin + length])
        if not read:
            if length is not None:
                raise BadAnswerError(f"ended after {len(got) - begin} of {length} bytes")
            return bytes(got[begin:])
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _length(head: bytes) -> int | None:
    """Content-Length of a 200; None where the body goes on until the end of the connection."""
    status, *lines = head.split(b"\r\n")
    known = _STATUS.fullmatch(status)
    if known is None:
        raise BadAnswerError("no HTTP answer")
    if known[1] != b"200":
        raise BadAnswerError(f"status {known[1].decode()}")
    length: int | None = None
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(b":"))
        match name.lower():
            case b"transfer-encoding":
                raise BadAnswerError("a transfer coding, such as chunked, is not understood")
            case b"content-encoding" if value.lower() != b"identity":
                # Unpacked, its size would not be bounded by what is read.
                raise BadAnswerError("a compressed answer is not understood")
            case b"content-length":
                if length is not None or not _LENGTH.fullmatch(value):
                    raise BadAnswerError("Content-Length is no number, or is there twice")
                length = int(value)
    return length
