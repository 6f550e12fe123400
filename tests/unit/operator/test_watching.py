"""How old each watch is, over a real stream on loopback: bookmarks count, silence does too."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubeseg_operator.connection import Connection
from kubeseg_operator.watching import Watches, for_kopf

PODS = "/api/v1/namespaces/team/pods"


@asynccontextmanager
async def stream() -> AsyncIterator[tuple[str, asyncio.Queue[bytes], list[str]]]:
    """A server that streams what is put into the queue."""
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    tokens: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        tokens.append(request.headers["Authorization"])
        answer = web.StreamResponse()
        await answer.prepare(request)
        while line := await lines.get():
            await answer.write(line)
        return answer

    app = web.Application()
    app.router.add_get(PODS, serve)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), lines, tokens
        lines.put_nowait(b"")


async def test_whatever_comes_makes_a_watch_young() -> None:
    now, counted = [100.0], list[tuple[str, int]]()
    watches = Watches(["team"], patience=60, clock=lambda: now[0])
    watches.begin()
    tokens = iter(["one", "two"])
    async with stream() as (url, lines, seen):
        connection = Connection(
            url, ssl.create_default_context(), lambda: {"Authorization": next(tokens)}
        )
        session = for_kopf(
            connection, watches, lambda verb, code: counted.append((verb, code))
        ).aiohttp_session
        async with session:
            answer = await session.get(f"{url}{PODS}", params={"watch": "true"})
            chunks = answer.content.iter_chunked(1 << 20)
            for _ in range(3):
                now[0] += 50
                lines.put_nowait(b'{"type": "BOOKMARK"}\n')
                assert b"BOOKMARK" in await anext(chunks)
            ages = {resource: age for resource, _, age in watches.ages()}
            assert ages["pods"] == 0
            assert ages["jobs"] == 150
            answer.close()
            # A renewed token is sent with the next request; that it is answered is news, too.
            now[0] += 50
            second = await session.get(f"{url}{PODS}")
            assert min(age for _, _, age in watches.ages()) == 0
            assert seen == ["one", "two"]
            second.close()
    assert counted == [("WATCH", 200), ("GET", 200)]


async def test_a_silent_watch_is_named() -> None:
    now = [100.0]
    watches = Watches([None], patience=60, clock=lambda: now[0])
    now[0] += 500
    assert watches.ill() is None, "a standby does not watch"
    watches.begin()
    assert watches.ill() is None
    now[0] += 50
    watches.told("/api/v1/pods")
    watches.told("/apis/batch/v1/jobs")
    watches.told("/api/v1/nodes")  # nobody's watch
    now[0] += 20
    assert watches.ill() == "the watch of trainingjobs has told nothing for 70 s"


async def test_no_answer_is_counted() -> None:
    counted: list[tuple[str, int]] = []
    async with stream() as (url, _, _):
        pass
    connection = Connection(url, ssl.create_default_context(), dict)
    session = for_kopf(connection, Watches([None]), lambda verb, code: counted.append((verb, code)))
    async with session.aiohttp_session as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"{url}{PODS}")
    assert counted == [("GET", 0)]
